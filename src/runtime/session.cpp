#include "runtime/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <iterator>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/index.h"
#include "base/mapped_file.h"
#include "model/site_transform.h"
#include "model/token_range.h"
#include "runtime/forward.h"

namespace pq::runtime {
namespace {

constexpr std::int64_t largest_capacity = std::int64_t{1} << 28;
constexpr std::array<char, 8> magic{'P', 'Q', 'S', 'E', 'S', 'S', '\n', '\2'};

/// Begins a saved session; all numbers little-endian.
struct FileHeader {
  std::array<char, 8> magic;
  std::uint64_t model;  ///< fingerprint of all that the cache's meaning depends on
  std::int64_t capacity;
  std::int64_t length;
  std::uint64_t cache_bytes;
  std::int64_t hidden;  ///< floats of the last token's residual stream that follow the header; 0: none
};

[[noreturn]] void refuse_length(std::int64_t length, std::int64_t added, std::int64_t capacity) {
  throw InputError("context",
                   fmt::format("{} tokens do not fit behind {}: the session holds at most {}", added, length, capacity),
                   "use a larger context, or fewer tokens");
}

/// Hash of a text that says what a cache's bytes mean.
std::uint64_t fingerprint(const ModelParts& parts) {
  const auto layout_text = [](const KvPlan& plan) {
    const kernels::KvLayout& layout = plan.layout;
    return fmt::format("{} {} {} {} {}", static_cast<int>(layout.format), layout.dynamic_scales, layout.group,
                       layout.groups, plan.packed);
  };
  std::string text = model_spec_fingerprint(parts.spec) + layout_text(parts.blocks.front().kv);
  text += recipe_to_json(parts.recipe).dump();
  for (const std::int32_t id : parts.prefix_ids) text += fmt::format(" {}", id);
  if (parts.prefix_ids.empty() && parts.prefix() > 0) text += fmt::format(" {} positions", parts.prefix());
  for (const PackedBlock& block : parts.blocks) {
    if (const std::string own = layout_text(block.kv); own != layout_text(parts.blocks.front().kv)) text += own;
    for (const std::vector<float>* values : {&block.key_basis, &block.key_mean}) {
      const std::string_view bytes(reinterpret_cast<const char*>(values->data()), values->size() * sizeof(float));
      if (!values->empty()) text += fmt::format(" {:x}", fnv1a(bytes));
    }
    const SiteTransforms of_recipe = online_rotations(parts.spec, parts.recipe.rotate);
    if (block.key_transform.definition() == of_recipe[Site::k_cache]) continue;
    SiteTransforms own;
    own[Site::k_cache] = block.key_transform.definition();
    text += site_transforms_to_json(own).dump();
  }
  return fnv1a(text);
}

std::int64_t checked_capacity(std::int64_t capacity) {
  if (capacity < 1 || capacity > largest_capacity) {
    throw InputError("context", fmt::format("a session for {} tokens cannot be made", capacity),
                     fmt::format("use 1 to {}", largest_capacity));
  }
  return capacity;
}

}  // namespace

struct Session::State {
  State(std::shared_ptr<const Model> of, std::int64_t capacity)
      : model(std::move(of)), sequence(model->parts(), checked_capacity(capacity)) {}

  std::shared_ptr<const Model> model;
  Sequence sequence;
  std::vector<float> last;    // residual stream of the last token; empty when it is not known
  std::vector<float> logits;  // of it
  bool logits_known = false;

  void keep_last(const float* residual) {
    last.assign(residual, residual + model->spec().hidden_size);
    logits_known = false;
  }
};

Session::Session(std::shared_ptr<const Model> model, std::int64_t capacity)
    : state_(std::make_unique<State>(std::move(model), capacity)) {}
Session::Session(std::unique_ptr<State> state) : state_(std::move(state)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

const std::shared_ptr<const Model>& Session::model() const { return state_->model; }
std::int64_t Session::length() const { return state_->sequence.length; }
std::int64_t Session::capacity() const { return state_->sequence.capacity; }

void Session::check(std::span<const SessionTokens> batch) {
  std::unordered_set<const Session*> seen;
  for (const auto& [session, tokens] : batch) {
    if (session->model() != batch[0].session->model()) throw InputError("batch", "its sessions are of several models");
    if (!seen.insert(session).second) throw InputError("batch", "holds one session twice");
    for (const std::int32_t token : tokens) check_token(token, session->model()->spec());
    const auto count = static_cast<std::int64_t>(tokens.size());
    if (count > session->capacity() - session->length()) refuse_length(session->length(), count, session->capacity());
  }
}

// Runs the model over a checked batch without empty members; returns the residual stream of each session's last token,
// [sessions, hidden].
std::vector<float> Session::advance(std::span<const SessionTokens> batch) {
  const ModelParts& parts = batch[0].session->model()->parts();
  const std::int64_t hidden = parts.spec.hidden_size;
  std::vector<Run> runs;
  for (const auto& [session, tokens] : batch) {
    runs.push_back({&session->state_->sequence, tokens});
    runs.back().sequence->cover(parts, session->length() + static_cast<std::int64_t>(tokens.size()));
  }
  std::vector<float> last(batch.size() * index(hidden));
  std::size_t session = 0;  // whose last token comes next
  auto last_row = static_cast<std::int64_t>(batch[0].tokens.size()) - 1;
  BorrowedWorkspace workspace(parts.workspaces);
  forward_all(parts, *workspace, runs, [&](std::int64_t first, const ConstRows& residual) {
    while (session < batch.size() && last_row < first + residual.count) {
      std::copy_n(residual.row(last_row - first), hidden, last.data() + session * index(hidden));
      if (++session < batch.size()) last_row += static_cast<std::int64_t>(batch[session].tokens.size());
    }
  });
  for (std::size_t i = 0; i < batch.size(); ++i) batch[i].session->state_->keep_last(last.data() + i * index(hidden));
  return last;
}

void Session::append(std::span<const std::int32_t> tokens) {
  const std::array batch{SessionTokens{this, tokens}};
  check(batch);
  if (!tokens.empty()) advance(batch);
}

std::span<const float> Session::logits() {
  if (state_->last.empty()) {
    throw InputError("session",
                     length() == 0 ? "no token was appended yet, so there are no logits"
                                   : "it was truncated, so the logits of its last token are gone",
                     "append a token first");
  }
  if (!state_->logits_known) {
    const ModelParts& parts = state_->model->parts();
    state_->logits.resize(index(parts.spec.vocab_size));
    BorrowedWorkspace workspace(parts.workspaces);
    project_logits(parts, *workspace, {state_->last.data(), parts.spec.hidden_size, 1}, state_->logits.data());
    state_->logits_known = true;
  }
  return state_->logits;
}

Session Session::fork() const {
  auto copy = std::make_unique<State>(state_->model, capacity());
  copy->sequence.cache.copy_tokens(state_->sequence.cache, length());
  copy->sequence.length = length();
  copy->sequence.ropes = state_->sequence.ropes;
  copy->last = state_->last;
  copy->logits = state_->logits;
  copy->logits_known = state_->logits_known;
  return Session(std::move(copy));
}

void Session::truncate(std::int64_t length) {
  Sequence& sequence = state_->sequence;
  if (length < 0 || length > sequence.length) {
    throw InputError("session", fmt::format("cannot be truncated to {} of its {} tokens", length, sequence.length));
  }
  if (length == sequence.length) return;
  sequence.length = length;
  state_->last.clear();
  state_->logits_known = false;
}

void Session::save(const std::filesystem::path& path) const {
  const Sequence& sequence = state_->sequence;
  const FileHeader header{.magic = magic,
                          .model = fingerprint(state_->model->parts()),
                          .capacity = sequence.capacity,
                          .length = sequence.length,
                          .cache_bytes = sequence.cache.bytes_of(sequence.length),
                          .hidden = static_cast<std::int64_t>(state_->last.size())};
  write_file_atomically(path, [&](OutputFile& file) {
    file.write(std::as_bytes(std::span(&header, 1)));
    file.write(std::as_bytes(std::span(state_->last)));
    state_->sequence.cache.visit_tokens(sequence.length, [&](std::span<std::byte> piece) { file.write(piece); });
  });
}

Session Session::load(std::shared_ptr<const Model> model, const std::filesystem::path& path) {
  const MappedFile file(path);
  const std::string where = path.string();
  const auto damaged = [&](std::string_view what) { throw FormatError(where, what, "save the session again"); };
  std::span<const std::byte> bytes = file.bytes();
  FileHeader header{};
  if (bytes.size() < sizeof header) damaged("is too short for a saved session");
  std::memcpy(&header, bytes.data(), sizeof header);
  bytes = bytes.subspan(sizeof header);
  if (header.magic != magic) damaged("is not a saved session of this version");
  if (header.model != fingerprint(model->parts())) {
    throw InputError(where, "was saved with another model, recipe or KV format",
                     "load the model that it was saved with");
  }
  if (header.capacity < 1 || header.capacity > largest_capacity || header.length < 0 ||
      header.length > header.capacity) {
    damaged(fmt::format("says it holds {} of {} tokens", header.length, header.capacity));
  }
  const std::int64_t hidden = model->spec().hidden_size;
  if (header.hidden != 0 && (header.hidden != hidden || header.length == 0)) {
    damaged(fmt::format("keeps {} values of its last token, the model has {}", header.hidden, hidden));
  }
  auto state = std::make_unique<State>(std::move(model), header.capacity);
  Sequence& sequence = state->sequence;
  const std::size_t last_bytes = index(header.hidden) * sizeof(float);
  if (header.cache_bytes != sequence.cache.bytes_of(header.length)) sequence.cache.widen(0);
  const std::uint64_t cache_bytes = sequence.cache.bytes_of(header.length);
  if (header.cache_bytes != cache_bytes || bytes.size() != last_bytes + cache_bytes) {
    damaged(fmt::format("{} tokens take {} bytes, but {} follow the header", header.length, last_bytes + cache_bytes,
                        bytes.size()));
  }
  state->last.resize(index(header.hidden));
  if (last_bytes > 0) std::memcpy(state->last.data(), bytes.data(), last_bytes);
  bytes = bytes.subspan(last_bytes);
  sequence.cache.visit_tokens(header.length, [&](std::span<std::byte> piece) {
    std::memcpy(piece.data(), bytes.data(), piece.size());
    bytes = bytes.subspan(piece.size());
  });
  const bool finite = std::all_of(state->last.begin(), state->last.end(), [](float x) { return std::isfinite(x); });
  if (!finite || !sequence.cache.sound(header.length)) damaged("holds values that cannot be computed with");
  sequence.length = header.length;
  sequence.cover(state->model->parts(), header.length);
  return Session(std::move(state));
}

void append_batch(std::span<const SessionTokens> batch) {
  Session::check(batch);
  std::vector<SessionTokens> filled;
  std::copy_if(batch.begin(), batch.end(), std::back_inserter(filled),
               [](const SessionTokens& member) { return !member.tokens.empty(); });
  if (filled.empty()) return;
  const std::vector<float> last = Session::advance(filled);
  const ModelParts& parts = filled[0].session->model()->parts();
  const std::int64_t hidden = parts.spec.hidden_size;
  const std::int64_t vocab = parts.spec.vocab_size;
  const auto sessions = static_cast<std::int64_t>(filled.size());
  BorrowedWorkspace workspace(parts.workspaces);
  std::vector<float> logits(index(std::min(sessions, most_rows) * vocab));
  for (std::int64_t first = 0; first < sessions; first += most_rows) {
    const std::int64_t count = std::min(most_rows, sessions - first);
    project_logits(parts, *workspace, {last.data() + first * hidden, hidden, count}, logits.data());
    for (std::int64_t i = 0; i < count; ++i) {
      Session::State& state = *filled[index(first + i)].session->state_;
      state.logits.assign(logits.data() + i * vocab, logits.data() + (i + 1) * vocab);
      state.logits_known = true;
    }
  }
}

}  // namespace pq::runtime
