#pragma once

#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "io/hf_checkpoint.h"
#include "io/hf_config.h"
#include "io/safetensors.h"

namespace pq::quant {

/// For tests: a model of three blocks whose weights are set by hand, with the sample model's tokenizer, in a directory
/// of its own. At block 2's down_proj an input is large at
/// - the first token of all (`first`): the one whose previous token is itself;
/// - the first occurrence of one token (`special`): the one whose previous token is that of the first occurrence.
/// The residual stream holds a token's code (its id's bits as +1 and -1), a constant, whether it is the special token,
/// the previous token's code (attention of block 0: scores peak one token back), the code of the token before the first
/// special one (attention of block 1: special tokens before others, far before near), and how well a code agrees with
/// another one (MLPs of blocks 0 and 1: products of their channels).
class OutlierModel {
 public:
  struct Rules {
    bool first = false;
    bool special = false;
    std::int32_t special_id = 0;
  };

  explicit OutlierModel(const Rules& rules) : rules_(rules) {
    namespace fs = std::filesystem;
    std::string name = (fs::temp_directory_path() / "pq_outlier_model_XXXXXX").string();
    path_ = ::mkdtemp(name.data());
    const fs::path sample = fs::path(PQ_SOURCE_DIR) / "examples" / "sample-model";
    for (const char* file : {"tokenizer.json", "tokenizer_config.json"}) fs::copy_file(sample / file, path_ / file);
    const Json config{{"model_type", "llama"},
                      {"architectures", {"LlamaForCausalLM"}},
                      {"hidden_size", hidden},
                      {"intermediate_size", wide},
                      {"num_hidden_layers", 3},
                      {"num_attention_heads", 1},
                      {"num_key_value_heads", 1},
                      {"head_dim", head},
                      {"vocab_size", vocab},
                      {"max_position_embeddings", 256},
                      {"rms_norm_eps", 1e-9},
                      {"rope_theta", 10000.0},
                      {"tie_word_embeddings", true},
                      {"bos_token_id", 1},
                      {"eos_token_id", 2}};
    write_file_atomically(path_ / "config.json", config.dump());
    set_weights();
    io::SafetensorsWriter writer(path_ / "model.safetensors", io::required_tensors(io::parse_config(config, "config")));
    for (const io::TensorDeclaration& tensor : io::required_tensors(io::parse_config(config, "config"))) {
      std::vector<float> values = values_of(tensor);
      std::vector<std::byte> bytes(values.size() * sizeof(float));
      std::memcpy(bytes.data(), values.data(), bytes.size());
      writer.append(tensor.name, bytes);
    }
    writer.finish();
  }
  ~OutlierModel() {
    std::error_code code;
    std::filesystem::remove_all(path_, code);
  }
  OutlierModel(const OutlierModel&) = delete;
  OutlierModel& operator=(const OutlierModel&) = delete;

  std::string path() const { return path_.string(); }

 private:
  static constexpr int bits = 13, hidden = 64, wide = 32, head = 16, vocab = 1 << bits;
  // Channels of the residual stream.
  static constexpr int own = 0, previous = 16, before_special = 32, one = 48, special = 49, is_first = 50,
                       is_first_special = 51;
  static constexpr double faint = 0.05;  // of agreements, so that they hardly change a token's norm
  static constexpr double gain = 20;     // silu(gain) is gain, silu(-gain) is 0

  void set(int block, const std::string& linear, int row, int column, double value) {
    weights_["model.layers." + std::to_string(block) + "." + linear + ".weight"][{row, column}] =
        static_cast<float>(value);
  }
  /// What the norm multiplies a stream with that has this squared norm.
  static double scale(double squared) { return std::sqrt(hidden / squared); }

  /// MLP of `block`: (left . right) / bits, times faint, to channel `out`.
  void agreement(int block, int left, int right, int out, double s) {
    for (int i = 0; i < 2 * bits; ++i) {
      const double sign = i < bits ? 1 : -1;
      set(block, "mlp.gate_proj", i, left + i % bits, sign * gain / s);
      set(block, "mlp.up_proj", i, right + i % bits, sign / s);
      set(block, "mlp.down_proj", out, i, faint / (bits * gain));
    }
  }

  void set_weights() {
    const double scaling = std::sqrt(static_cast<double>(head));  // scores are divided by it
    const double s0 = scale(bits + 2), s1 = scale(2 * bits + 2), s2 = scale(3 * bits + 2);
    // Block 0: cos(angle * (distance - 1)) for every pair of channels.
    for (int i = 0; i < head / 2; ++i) {
      const double angle = std::pow(10000.0, -2.0 * i / head);
      set(0, "self_attn.q_proj", i, one, 100 * scaling * std::cos(angle) / s0);
      set(0, "self_attn.q_proj", i + head / 2, one, -100 * scaling * std::sin(angle) / s0);
      set(0, "self_attn.k_proj", i, one, 1 / s0);
    }
    for (int i = 0; i < bits; ++i) {
      set(0, "self_attn.v_proj", i, own + i, 1 / s0);
      set(0, "self_attn.o_proj", previous + i, i, 1);
    }
    agreement(0, own, previous, is_first, s1);
    // Block 1: sin(distance / 100), and the special token beyond that.
    set(1, "self_attn.q_proj", 4 + head / 2, one, -2000 * scaling / s1);
    set(1, "self_attn.k_proj", 4, one, 1 / s1);
    set(1, "self_attn.q_proj", 7, one, 4000 * scaling / s1);
    set(1, "self_attn.k_proj", 7, special, 1 / s1);
    for (int i = 0; i < bits; ++i) {
      set(1, "self_attn.v_proj", i, previous + i, 1 / s1);
      set(1, "self_attn.o_proj", before_special + i, i, 1);
    }
    agreement(1, previous, before_special, is_first_special, s2);
    // Block 2: thresholds. Codes of different tokens agree to 11 of 13 at most.
    for (int i = 0; i < bits; ++i) set(2, "self_attn.v_proj", i, own + i, 1 / s2);
    for (int i = 0; i < head; ++i) {
      set(2, "self_attn.q_proj", i, one, 1 / s2);
      set(2, "self_attn.k_proj", i, one, 1 / s2);
    }
    for (int row = 0; row < wide; ++row) {
      set(2, "mlp.gate_proj", row, one, 2 / s2);
      set(2, "mlp.up_proj", row, one, 1 / s2);
    }
    const auto threshold = [&](int row, int channel, double level) {
      set(2, "mlp.gate_proj", row, channel, 200 / (faint * s2));
      set(2, "mlp.gate_proj", row, one, -200 * level / s2);
      set(2, "mlp.up_proj", row, one, 50 / s2);
    };
    if (rules_.first) threshold(0, is_first, 0.92);
    if (rules_.special) {
      threshold(1, is_first_special, 1.92);
      set(2, "mlp.gate_proj", 1, special, 200 / s2);
    }
  }

  std::vector<float> values_of(const io::TensorDeclaration& tensor) const {
    const auto size = static_cast<std::size_t>(tensor.byte_count() / sizeof(float));
    if (tensor.shape.size() == 1) return std::vector<float>(size, 1);  // norms
    std::vector<float> values(size);
    if (tensor.name == tensor_names::embedding) {
      for (int id = 0; id < vocab; ++id) {
        float* row = values.data() + static_cast<std::size_t>(id) * hidden;
        for (int i = 0; i < bits; ++i) row[own + i] = (id >> i & 1) != 0 ? 1 : -1;
        row[one] = 1;
        row[special] = id == rules_.special_id ? 1 : -1;
      }
      return values;
    }
    const auto found = weights_.find(tensor.name);
    if (found == weights_.end()) return values;
    const auto columns = static_cast<std::size_t>(tensor.shape[1]);
    for (const auto& [place, value] : found->second) {
      values[static_cast<std::size_t>(place.first) * columns + static_cast<std::size_t>(place.second)] = value;
    }
    return values;
  }

  Rules rules_;
  std::filesystem::path path_;
  std::map<std::string, std::map<std::pair<int, int>, float>> weights_;
};

}  // namespace pq::quant
