#include "runtime/session.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "kernels/select.h"
#include "runtime/model_loader.h"

namespace pq::runtime {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

ModelSpec small_spec() {
  ModelSpec spec;
  spec.hidden_size = 64;
  spec.intermediate_size = 96;
  spec.block_count = 2;
  spec.head_count = 4;
  spec.kv_head_count = 2;
  spec.head_dim = 16;
  spec.vocab_size = 50;
  spec.max_positions = 2048;
  spec.rms_norm_eps = 1e-5;
  spec.rope_theta = 10000;
  return spec;
}

const kernels::KernelTable& scalar() { return *kernels::kernel_tables().front(); }

std::shared_ptr<const Model> small_model(const std::string& recipe, const kernels::KernelTable& table,
                                         std::int64_t window = 0, const std::vector<std::string>& settings = {}) {
  ModelSpec spec = small_spec();
  spec.sliding_window = window;
  Recipe settled = recipe.empty() ? Recipe{} : named_recipe(recipe);
  for (const std::string& setting : settings) apply_setting(settled, setting);
  return std::make_shared<const Model>(build_model(random_source(spec, settled, 3), {}, table));
}

std::vector<std::int32_t> tokens_of(std::size_t count, std::uint64_t seed) {
  Random random(seed, "tokens");
  std::vector<std::int32_t> tokens;
  while (tokens.size() < count) tokens.push_back(static_cast<std::int32_t>(random.below(50)));
  return tokens;
}

std::vector<float> logits_of(Session& session) {
  const std::span<const float> logits = session.logits();
  return {logits.begin(), logits.end()};
}

template <typename E>
std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  return "nothing was thrown";
}

/// A file of the test's own, removed at its end.
struct TemporaryFile {
  TemporaryFile() : path(fs::path(testing::TempDir()) / fmt::format("pq_session_{}", ::getpid())) {}
  ~TemporaryFile() { fs::remove(path); }
  std::string read() const {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void write(const std::string& bytes) const { std::ofstream(path, std::ios::binary) << bytes; }
  fs::path path;
};

// The scalar kernels compute each row alone, so that how the tokens came cannot matter at all.
TEST(Session, TokensAtOnceEqualTokensOneByOne) {
  for (const char* recipe : {"", "w4a8kv4-static", "w4a4kv4-dynamic", "w8a8kv8-dynamic", "w3a16g128"}) {
    for (const std::int64_t window : {0, 9}) {
      const auto model = small_model(recipe, scalar(), window);
      const auto tokens = tokens_of(45, 1);
      Session whole(model, 64);
      whole.append(tokens);
      Session parts(model, 64);
      parts.append(std::span(tokens).first(20));
      for (std::size_t i = 20; i < tokens.size(); ++i) parts.append(std::span(tokens).subspan(i, 1));
      EXPECT_EQ(parts.length(), 45);
      EXPECT_EQ(logits_of(whole), logits_of(parts)) << recipe << " window " << window;
    }
  }
}

TEST(Session, EveryTableGivesTheLogitsOfTheScalarOne) {
  const auto tokens = tokens_of(600, 2);
  for (const char* recipe : {"", "w8a8kv8-static", "w4a16g128"}) {
    Session reference(small_model(recipe, scalar()), 600);
    reference.append(tokens);
    const std::vector<float> expected = logits_of(reference);
    for (const kernels::KernelTable* table : kernels::kernel_tables()) {
      if (!kernels::supported(*table)) continue;
      Session session(small_model(recipe, *table), 600);
      session.append(tokens);
      const std::vector<float> actual = logits_of(session);
      double error = 0;
      double size = 0;
      for (std::size_t i = 0; i < actual.size(); ++i) {
        error += std::pow(static_cast<double>(actual[i] - expected[i]), 2);
        size += std::pow(static_cast<double>(expected[i]), 2);
      }
      // Eight-bit codes may fall to the other side of a step here and there.
      EXPECT_LT(std::sqrt(error / size), std::string(recipe) == "w8a8kv8-static" ? 0.05 : 2e-3)
          << table->name << recipe;
    }
  }
}

TEST(Session, AForkAndATruncatedSessionGoOnAlike) {
  for (const char* recipe : {"", "w4a8kv4-static", "w4a4kv4-dynamic"}) {
    const auto model = small_model(recipe, scalar());
    Session session(model, 100);
    session.append(tokens_of(33, 1));
    Session fork = session.fork();
    EXPECT_EQ(fork.length(), 33);
    EXPECT_EQ(logits_of(fork), logits_of(session));
    session.append(tokens_of(30, 2));
    const auto expected = logits_of(session);
    fork.append(tokens_of(7, 3));
    fork.truncate(33);
    EXPECT_THAT(message_of<InputError>([&] { fork.logits(); }), HasSubstr("truncated"));
    fork.append(tokens_of(30, 2));
    EXPECT_EQ(logits_of(fork), expected) << recipe;
    session.truncate(63);
    EXPECT_EQ(logits_of(session), expected);
    EXPECT_THROW(session.truncate(64), InputError);
    EXPECT_THROW(session.truncate(-1), InputError);
  }
}

TEST(Session, ABatchGivesWhatItsSessionsGiveAlone) {
  for (const char* recipe : {"", "w4a8kv4-static", "w4a4kv4-dynamic"}) {
    const auto model =
        small_model(recipe, scalar(), 0,
                    std::string(recipe) == "w4a4kv4-dynamic" ? std::vector<std::string>{"kv.granularity=token"}
                                                             : std::vector<std::string>{});
    std::vector<Session> together;
    std::vector<Session> alone;
    for (std::size_t i = 0; i < 11; ++i) {
      together.emplace_back(model, 60);
      if (i > 0) together.back().append(tokens_of(5 * i, i));
      alone.push_back(together.back().fork());
    }
    std::vector<Session*> pointers;
    for (Session& session : together) pointers.push_back(&session);
    const auto next = tokens_of(11, 99);
    append_batch(pointers, next);
    for (std::size_t i = 0; i < 11; ++i) {
      alone[i].append(std::span(next).subspan(i, 1));
      EXPECT_EQ(together[i].length(), static_cast<std::int64_t>(5 * i + 1));
      EXPECT_EQ(logits_of(together[i]), logits_of(alone[i])) << recipe << " session " << i;
    }
    pointers[3] = pointers[2];
    EXPECT_THAT(message_of<InputError>([&] { append_batch(pointers, next); }), HasSubstr("twice"));
  }
}

TEST(Session, RefusesWhatItCannotHold) {
  const auto model = small_model("w4a8kv4-static", scalar());
  Session session(model, 8);
  EXPECT_THAT(message_of<InputError>([&] { session.logits(); }), HasSubstr("no token"));
  EXPECT_THAT(message_of<InputError>([&] { session.append(tokens_of(9, 1)); }), HasSubstr("holds at most 8"));
  EXPECT_EQ(session.length(), 0);
  session.append(tokens_of(8, 1));
  EXPECT_THAT(message_of<InputError>([&] { session.append(tokens_of(1, 1)); }), HasSubstr("holds at most 8"));
  EXPECT_EQ(session.length(), 8);
  const std::vector<std::int32_t> outside{50};
  session.truncate(3);
  EXPECT_THAT(message_of<InputError>([&] { session.append(outside); }), HasSubstr("token id 50 is outside"));
  EXPECT_THROW(Session(model, 0), InputError);
  EXPECT_THROW(Session(model, std::int64_t{1} << 60), InputError);
}

TEST(Session, GoesOnAfterSavingAndLoading) {
  for (const char* recipe : {"", "w4a8kv4-static", "w4a4kv4-dynamic"}) {
    const auto model = small_model(recipe, scalar());
    const TemporaryFile file;
    Session session(model, 100);
    session.append(tokens_of(40, 1));
    session.save(file.path);
    Session loaded = Session::load(model, file.path);
    EXPECT_EQ(loaded.capacity(), 100);
    EXPECT_EQ(logits_of(loaded), logits_of(session)) << recipe;
    loaded.append(tokens_of(3, 2));
    session.append(tokens_of(3, 2));
    EXPECT_EQ(logits_of(loaded), logits_of(session)) << recipe;
  }
}

TEST(Session, ADamagedFileIsRefusedOrHarmless) {
  const auto model = small_model("w4a4kv4-dynamic", scalar());
  const TemporaryFile file;
  Session session(model, 100);
  session.append(tokens_of(5, 1));
  session.save(file.path);
  const std::string bytes = file.read();
  for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{47}, std::size_t{48}, bytes.size() - 1}) {
    file.write(bytes.substr(0, size));
    EXPECT_THROW(Session::load(model, file.path), FormatError) << size;
  }
  file.write(bytes + "x");
  EXPECT_THROW(Session::load(model, file.path), FormatError);
  EXPECT_THAT(message_of<InputError>([&] {
                file.write(bytes);
                Session::load(small_model("w4a8kv4-static", scalar()), file.path);
              }),
              HasSubstr("another model"));
  Random random(1, "damage");
  for (int i = 0; i < 300; ++i) {
    std::string damaged = bytes;
    // Mostly the header, where damage is dangerous.
    const std::size_t at = random.below(i % 3 == 0 ? damaged.size() : 48);
    damaged[at] = static_cast<char>(random.next());
    file.write(damaged);
    try {
      Session loaded = Session::load(model, file.path);
      if (loaded.length() == 0) continue;
      loaded.logits();
      if (loaded.length() < loaded.capacity()) loaded.append(tokens_of(1, 1));
    } catch (const Error&) {
      continue;
    }
  }
}

}  // namespace
}  // namespace pq::runtime
