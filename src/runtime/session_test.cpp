#include "runtime/session.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/error_for_test.h"
#include "base/index.h"
#include "base/random.h"
#include "kernels/select.h"
#include "model/spec_for_test.h"
#include "runtime/down_product_maxima.h"
#include "runtime/model_loader.h"

namespace pq::runtime {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const kernels::KernelTable& scalar() { return *kernels::kernel_tables().front(); }

/// One block with one KV head, for hundreds of tokens through the scalar kernels.
ModelSpec light_spec() {
  ModelSpec spec = small_spec(32, 32, 2, 1, 16);
  spec.block_count = 1;
  return spec;
}

std::shared_ptr<const Model> small_model(const std::string& recipe, const kernels::KernelTable& table,
                                         std::int64_t window = 0, const std::vector<std::string>& settings = {},
                                         ModelSpec spec = small_spec(64, 96, 4, 2, 16)) {
  spec.block_pattern = {{.window = window}};
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
    const auto next = tokens_of(11, 99);
    std::vector<SessionTokens> batch;
    for (std::size_t i = 0; i < 11; ++i) batch.push_back({&together[i], std::span(next).subspan(i, 1)});
    append_batch(batch);
    for (std::size_t i = 0; i < 11; ++i) {
      alone[i].append(std::span(next).subspan(i, 1));
      EXPECT_EQ(together[i].length(), static_cast<std::int64_t>(5 * i + 1));
      EXPECT_EQ(logits_of(together[i]), logits_of(alone[i])) << recipe << " session " << i;
    }
    batch[3].session = batch[2].session;
    EXPECT_THAT(message_of<InputError>([&] { append_batch(batch); }), HasSubstr("twice"));
  }
}

/// Sessions at different depths that get 1, 3 and 700 tokens, some generating, some reading.
struct MixedBatch {
  static constexpr std::array<std::size_t, 6> depths{0, 40, 7, 300, 0, 31};
  static constexpr std::array<std::size_t, 6> added{700, 1, 3, 1, 3, 0};

  explicit MixedBatch(const std::shared_ptr<const Model>& model) {
    for (std::size_t i = 0; i < depths.size(); ++i) {
      sessions.emplace_back(model, 1002);
      if (depths[i] > 0) sessions.back().append(tokens_of(depths[i], i));
      tokens.push_back(tokens_of(added[i], 100 + i));
    }
  }
  std::vector<SessionTokens> batch() {
    std::vector<SessionTokens> members;
    for (std::size_t i = 0; i < sessions.size(); ++i) members.push_back({&sessions[i], tokens[i]});
    return members;
  }
  /// Of every session now, and after one more token: its whole cache is read for those.
  std::vector<std::vector<float>> logits() {
    std::vector<std::vector<float>> all;
    for (Session& session : sessions) all.push_back(logits_of(session));
    for (Session& session : sessions) {
      session.append(tokens_of(1, 7));
      all.push_back(logits_of(session));
    }
    return all;
  }

  std::vector<Session> sessions;
  std::vector<std::vector<std::int32_t>> tokens;
};

TEST(Session, ABatchOfAnyNumbersOfTokensGivesWhatItsSessionsGiveAlone) {
  const struct {
    std::string recipe;
    std::int64_t window;
    std::vector<std::string> settings;
  } rows[] = {{"w4a8kv4-static", 0, {}},
              {"", 9, {}},
              {"w4a4kv4-dynamic", 0, {}},
              {"w4a4kv4-dynamic", 20, {"kv.granularity=token"}}};
  for (const auto& row : rows) {
    const auto model = small_model(row.recipe, scalar(), row.window, row.settings, light_spec());
    MixedBatch alone(model);
    for (std::size_t i = 0; i < alone.sessions.size(); ++i) alone.sessions[i].append(alone.tokens[i]);
    MixedBatch together(model);
    append_batch(together.batch());
    for (std::size_t i = 0; i < together.sessions.size(); ++i) {
      EXPECT_EQ(together.sessions[i].length(), static_cast<std::int64_t>(MixedBatch::depths[i] + MixedBatch::added[i]));
    }
    const auto expected = alone.logits();
    EXPECT_EQ(together.logits(), expected) << row.recipe;
    if (row.recipe != rows[0].recipe) continue;
    // Two sessions that got each other's tokens, and one that stands a token too early, are seen.
    MixedBatch exchanged(model);
    std::swap(exchanged.tokens[1], exchanged.tokens[3]);
    append_batch(exchanged.batch());
    EXPECT_NE(exchanged.logits(), expected);
    MixedBatch early(model);
    early.sessions[2].truncate(6);
    append_batch(early.batch());
    EXPECT_NE(early.logits(), expected);
  }
}

// Whatever table computes (the scalar one exactly), what is in a pass with a session changes its values by rounding
// only.
TEST(Session, ABatchIsTheSameWithinRoundingOnEveryTable) {
  for (const kernels::KernelTable* table : kernels::kernel_tables()) {
    if (!kernels::supported(*table) || table == &scalar()) continue;
    const auto model = small_model("", *table, 0, {}, light_spec());
    MixedBatch alone(model);
    for (std::size_t i = 0; i < alone.sessions.size(); ++i) alone.sessions[i].append(alone.tokens[i]);
    MixedBatch together(model);
    append_batch(together.batch());
    const auto expected = alone.logits();
    const auto actual = together.logits();
    for (std::size_t i = 0; i < actual.size(); ++i) {
      EXPECT_THAT(actual[i], testing::Pointwise(testing::FloatNear(1e-3F), expected[i])) << table->name << " " << i;
    }
  }
}

// A dynamic scale of the whole tensor is that of a pass: append's pieces and those of a batch of one are the same.
TEST(Session, ABatchOfOneIsAppend) {
  const auto model = small_model("w4a4kv4-dynamic", scalar(), 0, {"activation.granularity=tensor"}, light_spec());
  const auto tokens = tokens_of(520, 1);
  Session alone(model, 520);
  alone.append(tokens);
  Session batched(model, 520);
  append_batch(std::array{SessionTokens{&batched, tokens}});
  EXPECT_EQ(logits_of(batched), logits_of(alone));
  Session in_other_pieces(model, 520);
  in_other_pieces.append(std::span(tokens).first(300));
  in_other_pieces.append(std::span(tokens).subspan(300));
  EXPECT_NE(logits_of(in_other_pieces), logits_of(alone));
}

TEST(Session, ARefusedBatchChangesNothing) {
  const auto model = small_model("w4a8kv4-static", scalar());
  const auto other = small_model("w4a8kv4-static", scalar());
  std::vector<Session> sessions;
  for (int i = 0; i < 3; ++i) {
    sessions.emplace_back(i == 2 ? other : model, 10);
    sessions.back().append(tokens_of(4, 1));
  }
  const auto expected = logits_of(sessions[0]);
  const auto few = tokens_of(2, 2);
  const auto many = tokens_of(7, 2);
  const std::vector<std::int32_t> outside{3, -1};
  const std::pair<SessionTokens, std::string> rows[] = {
      {{&sessions[0], few}, "holds one session twice"},
      {{&sessions[1], many}, "7 tokens do not fit behind 4: the session holds at most 10"},
      {{&sessions[1], outside}, "token id -1 is outside the vocabulary of 50"},
      {{&sessions[2], few}, "of several models"}};
  for (const auto& [second, message] : rows) {
    EXPECT_THAT(message_of<InputError>([&, member = second] {
                  append_batch(std::array{SessionTokens{&sessions[0], few}, member});
                }),
                HasSubstr(message));
    for (Session& session : sessions) {
      EXPECT_EQ(session.length(), 4);
      EXPECT_EQ(logits_of(session), expected);
    }
  }
  append_batch({});
  append_batch(std::array{SessionTokens{&sessions[0], {}}, SessionTokens{&sessions[1], few}});
  EXPECT_EQ(sessions[0].length(), 4);
  EXPECT_EQ(sessions[1].length(), 6);
  EXPECT_EQ(logits_of(sessions[0]), expected);
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

// Each block's cache in a format of its own.
TEST(Session, MixedCachesForkTruncateSaveAndLoad) {
  const std::vector<std::vector<std::string>> mixtures{
      {"blocks.0.kv.bits=16"},
      {"blocks.1.kv.bits=8"},
      {"blocks.0.kv.mode=dynamic", "blocks.0.kv.granularity=token", "blocks.1.kv.symmetric=false"},
      {"blocks.1.kv.mode=dynamic", "blocks.1.kv.granularity=group", "blocks.1.kv.group=8"}};
  const TemporaryFile file;
  const auto uniform = small_model("w4a8kv4-static", scalar());
  for (const std::vector<std::string>& settings : mixtures) {
    SCOPED_TRACE(settings[0]);
    const auto model = small_model("w4a8kv4-static", scalar(), 0, settings);
    Session session(model, 100);
    session.append(tokens_of(40, 1));
    session.save(file.path);
    Session loaded = Session::load(model, file.path);
    Session fork = session.fork();
    Session steps(model, 100);
    for (const std::int32_t token : tokens_of(40, 1)) steps.append({&token, 1});
    for (Session* other : {&loaded, &fork, &steps}) EXPECT_EQ(logits_of(*other), logits_of(session));
    Session plain(uniform, 100);
    plain.append(tokens_of(40, 1));
    EXPECT_NE(logits_of(plain), logits_of(session));
    session.append(tokens_of(30, 2));
    for (Session* other : {&loaded, &fork, &steps}) {
      other->append(tokens_of(7, 3));
      other->truncate(40);
      other->append(tokens_of(30, 2));
      EXPECT_EQ(logits_of(*other), logits_of(session));
    }
    EXPECT_THAT(message_of<InputError>([&] { Session::load(uniform, file.path); }), HasSubstr("KV format"));
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

TEST(DownProductMaxima, AreThoseOfEveryTokenInEveryBlock) {
  const auto model = small_model("", scalar());
  const std::vector<std::int32_t> tokens = tokens_of(40, 5);
  const auto maxima = down_product_maxima(*model, tokens);
  ASSERT_EQ(maxima.size(), index(model->spec().block_count));
  for (const std::vector<float>& of_block : maxima) {
    ASSERT_EQ(of_block.size(), tokens.size());
    for (const float largest : of_block) EXPECT_GT(largest, 0);
  }
  // A token sees only those before it.
  const auto shorter = down_product_maxima(*model, std::span(tokens).first(17));
  for (std::size_t block = 0; block < maxima.size(); ++block) {
    for (std::size_t i = 0; i < 17; ++i)
      EXPECT_NEAR(shorter[block][i], maxima[block][i], 1e-5F * maxima[block][i]) << block << " " << i;
  }
  EXPECT_THROW(down_product_maxima(*model, std::vector<std::int32_t>{-1}), InputError);
}

}  // namespace
}  // namespace pq::runtime
