#include "io/resume_journal.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <limits>
#include <stdexcept>
#include <thread>

#include "io/hf_config.h"
#include "io/sealed_tensors.h"
#include "io/test_blocks.h"
#include "io/test_files.h"

namespace pq::io {
namespace {

using ::testing::AllOf;
using testing::expect_equal;
using testing::FileSizeLimit;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;
using testing::random_block;
using testing::read_bytes;
using testing::small_config;
using testing::TemporaryDirectory;
using testing::write_bytes;

constexpr const char* go_on = "remove this file and run the command again, or begin anew with --restart";

TuningState state_with(float value, std::size_t count = 6) {
  TuningState state;
  state.notes = Json{{"epoch", value}};
  state.tensors.push_back({"q_proj.weight", {2, static_cast<std::int64_t>(count / 2)}, {}});
  state.tensors.back().values.assign(count / 2 * 2, value);
  state.tensors.push_back({"nothing", {0, 3}, {}});
  state.tensors.push_back({"optimizer", {}, {-value}});  // a scalar, called like the optimizer's own bytes
  state.optimizer.assign(count, static_cast<std::byte>(static_cast<int>(value)));
  return state;
}

void expect_equal(const TuningState& found, const TuningState& expected) {
  EXPECT_EQ(found.notes, expected.notes);
  EXPECT_EQ(found.optimizer, expected.optimizer);
  ASSERT_EQ(found.tensors.size(), expected.tensors.size());
  for (std::size_t i = 0; i < expected.tensors.size(); ++i) {
    EXPECT_EQ(found.tensors[i].name, expected.tensors[i].name);
    EXPECT_EQ(found.tensors[i].shape, expected.tensors[i].shape);
    EXPECT_EQ(found.tensors[i].values, expected.tensors[i].values);
  }
}

class Journal : public ::testing::Test {
 protected:
  ResumeJournal open() const { return open(fingerprint_); }
  ResumeJournal open(const Json& fingerprint) const {
    return {directory_, fingerprint, spec_, recipe_, online_rotations(spec_, recipe_.rotate)};
  }
  QuantizedBlock block(std::int64_t index) const {
    Random random(static_cast<std::uint64_t>(index), "block");
    return random_block(random, spec_, recipe_, index);
  }
  void flip_bit(const fs::path& path, std::size_t position) const {
    std::string bytes = read_bytes(path);
    bytes.at(position) = static_cast<char>(bytes.at(position) ^ 4);
    write_bytes(path, bytes);
  }

  TemporaryDirectory temporary_;
  fs::path directory_ = temporary_.path() / "out.partial" / "resume";
  fs::path state_ = directory_ / "state.safetensors";
  ModelSpec spec_ = parse_config(small_config(), "config");
  Recipe recipe_ = named_recipe("w4a4kv4-static");
  Json fingerprint_{{"recipe", {{"weight", {{"bits", 4}}}, {"finetune", {{"epochs", 5}, {"lr", 1e-5}}}}},
                    {"model", "0123456789abcdef"},
                    {"prefix", {286, 1}}};
};

TEST_F(Journal, WritesNothingBeforeThereIsWork) {
  const ResumeJournal journal = open();
  EXPECT_FALSE(journal.resumed());
  EXPECT_EQ(journal.finished_blocks(), 0);
  EXPECT_EQ(journal.state("block-0"), std::nullopt);
  EXPECT_FALSE(fs::exists(directory_));
}

TEST_F(Journal, GivesBackWhatWasSaved) {
  for (const char* name : {"w4a4kv4-static", "w4a4kv4-dynamic", "w2a16g128"}) {
    fs::remove_all(directory_);
    recipe_ = named_recipe(name);
    {
      ResumeJournal journal = open();
      journal.save_state("block-0", state_with(1));
      journal.save_state("block-0", state_with(2));
      expect_equal(journal.state("block-0").value(), state_with(2));
    }
    {
      ResumeJournal journal = open();
      EXPECT_TRUE(journal.resumed());
      EXPECT_EQ(journal.finished_blocks(), 0);
      expect_equal(journal.state("block-0").value(), state_with(2));
      EXPECT_EQ(journal.state("block-1"), std::nullopt);
      EXPECT_EQ(journal.state("e2e"), std::nullopt);
      journal.save_block(0, block(0), Json{{"loss", 0.1}, {"text", "\"\u00e4\n"}});
      EXPECT_EQ(journal.state("block-0"), std::nullopt);
      EXPECT_FALSE(fs::exists(state_));
      EXPECT_EQ(journal.finished_blocks(), 1);
      journal.save_block(1, block(1), Json());
      journal.save_state("e2e", state_with(3));
    }
    const ResumeJournal journal = open();
    EXPECT_EQ(journal.finished_blocks(), 2);
    expect_equal(journal.block(0), block(0));
    expect_equal(journal.block(1), block(1));
    EXPECT_EQ(journal.block_notes(0), (Json{{"loss", 0.1}, {"text", "\"\u00e4\n"}}));
    EXPECT_EQ(journal.block_notes(1), Json());
    expect_equal(journal.state("e2e").value(), state_with(3));
  }
}

TEST_F(Journal, TheSameWorkGivesTheSameBytes) {
  const auto save = [&] {
    fs::remove_all(directory_);
    ResumeJournal journal = open();
    journal.save_block(0, block(0), Json{{"loss", 1}});
    journal.save_state("block-1", state_with(2));
    return read_bytes(directory_ / "block-00000.safetensors") + read_bytes(state_);
  };
  EXPECT_EQ(save(), save());
}

TEST_F(Journal, RefusesCallsThatDoNotFit) {
  ResumeJournal journal = open();
  EXPECT_THROW(journal.save_block(1, block(1), {}), std::logic_error);
  EXPECT_THROW(journal.save_block(-1, block(0), {}), std::logic_error);
  EXPECT_THROW(journal.block(0), std::logic_error);
  EXPECT_THROW(journal.block_notes(-1), std::logic_error);
  QuantizedBlock small = block(0);
  small.linears[LinearId::v].scales.pop_back();
  EXPECT_THROW(journal.save_block(0, small, {}), std::logic_error);
  TuningState wrong = state_with(1);
  wrong.tensors[0].values.pop_back();
  EXPECT_THROW(journal.save_state("block-0", wrong), std::logic_error);
  wrong = state_with(1);
  wrong.tensors[1].name = wrong.tensors[0].name;
  EXPECT_THROW(journal.save_state("block-0", wrong), std::logic_error);
  EXPECT_EQ(journal.finished_blocks(), 0);
  EXPECT_FALSE(open().resumed());  // a journal, but no work in it
  journal.save_block(0, block(0), {});
  journal.save_block(1, block(1), {});
  EXPECT_THROW(journal.save_block(2, block(1), {}), std::logic_error);
  journal.save_block(0, block(1), {});  // may be replaced
  EXPECT_EQ(open().finished_blocks(), 2);
  expect_equal(open().block(0), block(1));
}

TEST_F(Journal, NamesWhatDiffers) {
  open().save_state("block-0", state_with(1));
  const std::string start = directory_.string() + ": holds the unfinished work of another run: ";
  const std::string end = "; run the command that began it, or begin anew with --restart";
  const auto message = [&](const std::function<void(Json&)>& edit) {
    Json other = fingerprint_;
    edit(other);
    return message_of<InputError>([&] { open(other); });
  };
  EXPECT_EQ(message([](Json& f) { f["recipe"]["finetune"]["epochs"] = 10; }),
            start + "recipe.finetune.epochs was 5 and is 10" + end);
  EXPECT_EQ(message([](Json& f) {
              f["recipe"]["finetune"]["epochs"] = 10;
              f["model"] = "fedcba9876543210";
            }),
            start + "recipe.finetune.epochs was 5 and is 10; model was 0123456789abcdef and is fedcba9876543210" + end);
  EXPECT_EQ(message([](Json& f) { f["recipe"]["finetune"].erase("lr"); }),
            start + "recipe.finetune.lr was 1e-05 and is not there" + end);
  EXPECT_EQ(message([](Json& f) { f["calibration text"] = ""; }),
            start + "calibration text was not there and is \"\"" + end);
  EXPECT_EQ(message([](Json& f) { f["prefix"] = {286}; }), start + "prefix was [286,1] and is [286]" + end);
  EXPECT_EQ(message([](Json& f) { f["recipe"] = Json::array(); }),
            start +
                "recipe was not there and is []; recipe.weight.bits was 4 and is not there; recipe.finetune.epochs was "
                "5 and is not there; recipe.finetune.lr was 1e-05 and is not there" +
                end);
  EXPECT_EQ(message([](Json& f) {
              for (char name = 'a'; name <= 'g'; ++name) f[std::string(1, name)] = 1;
            }),
            start +
                "a was not there and is 1; b was not there and is 1; c was not there and is 1; d was not there and is "
                "1; e was not there and is 1; and 2 more" +
                end);
  EXPECT_THAT(message([](Json& f) { f["model"] = std::string(100, 'x'); }),
              HasSubstr("model was 0123456789abcdef and is " + std::string(80, 'x') + "..." + end));
  expect_equal(open().state("block-0").value(), state_with(1));  // refusing has changed nothing
}

TEST_F(Journal, ADifferenceBeyondTheTextThatIsShownIsSaidToo) {
  fingerprint_["model"] = std::string(100, 'x') + "1";
  open().save_state("block-0", state_with(1));
  fingerprint_["model"] = std::string(100, 'x') + "2";
  EXPECT_THAT(message_of<InputError>([&] { open(); }), HasSubstr("model differs (" + std::string(80, 'x') + "...)"));
}

TEST_F(Journal, AJournalWithoutWorkBindsNobody) {
  open().save_state("block-0", state_with(1));
  fs::remove(state_);
  fingerprint_["model"] = "another";
  ResumeJournal journal = open();
  EXPECT_FALSE(journal.resumed());
  journal.save_state("block-0", state_with(2));
  EXPECT_TRUE(open().resumed());
  fingerprint_["model"] = "a third";
  EXPECT_THROW(open(), InputError);
}

TEST_F(Journal, RefusesADamagedOrForeignJournal) {
  open().save_state("block-0", state_with(1));
  const fs::path path = directory_ / "journal.json";
  Json json = read_json_file(path);
  json["format_version"] = 2;
  write_bytes(path, json.dump());
  EXPECT_EQ(message_of<UnsupportedError>([&] { open(); }),
            path.string() +
                ": the saved work has format version 2, this program reads version 1; finish it with the program's "
                "version that began it, or begin anew with --restart");
  for (const char* text : {"{\"format_version\": 1", "[]", "{\"format_version\": 1}", ""}) {
    write_bytes(path, text);
    EXPECT_THAT(message_of<FormatError>([&] { open(); }),
                AllOf(HasSubstr(path.string()), HasSubstr("begin anew with --restart")));
  }
  fs::remove(path);
  EXPECT_THAT(message_of<FormatError>([&] { open(); }), HasSubstr(path.string()));
}

TEST_F(Journal, NoticesEveryDamagedByteOfAState) {
  open().save_state("block-0", state_with(1));
  const std::string good = read_bytes(state_);
  for (std::size_t i = 0; i < good.size(); ++i) {
    flip_bit(state_, i);
    const std::string message = message_of<FormatError>([&] { open().state("block-0"); });
    ASSERT_THAT(message, AllOf(HasSubstr(state_.string() + ": the saved work cannot be used"), HasSubstr(go_on))) << i;
    write_bytes(state_, good);
  }
  for (std::size_t size = 0; size < good.size(); size += 7) {
    write_bytes(state_, good.substr(0, size));
    ASSERT_THAT(message_of<FormatError>([&] { open().state("block-0"); }), HasSubstr(go_on)) << size;
  }
  write_bytes(state_, good);
  expect_equal(open().state("block-0").value(), state_with(1));
}

TEST_F(Journal, NoticesADamagedBlockAndGoesOnWithoutIt) {
  {
    ResumeJournal journal = open();
    journal.save_block(0, block(0), {});
    journal.save_block(1, block(1), {});
  }
  const fs::path path = directory_ / "block-00000.safetensors";
  flip_bit(path, fs::file_size(path) - 1);
  EXPECT_THAT(message_of<FormatError>([&] { open().block(0); }), AllOf(HasSubstr(path.string()), HasSubstr(go_on)));
  EXPECT_THAT(message_of<FormatError>([&] { open().block_notes(0); }), HasSubstr(path.string()));
  expect_equal(open().block(1), block(1));
  fs::remove(path);
  ResumeJournal journal = open();
  EXPECT_EQ(journal.finished_blocks(), 0);
  EXPECT_FALSE(journal.resumed());
}

TEST_F(Journal, ABlockIsCheckedAsACheckpointsIs) {
  QuantizedBlock bad = block(0);
  bad.linears[LinearId::up].scales[1] = -1.0F;
  open().save_block(0, bad, {});
  EXPECT_THAT(message_of<FormatError>([&] { open().block(0); }),
              AllOf(HasSubstr("model.layers.0.mlp.up_proj.scales"), HasSubstr("element 1 is -1, not above 0")));
  bad = block(0);
  bad.sites[Site::k_cache].scale[0] = std::numeric_limits<float>::quiet_NaN();
  open().save_block(0, bad, {});
  EXPECT_THAT(message_of<FormatError>([&] { open().block(0); }),
              AllOf(HasSubstr("self_attn.k_cache.scale"), HasSubstr("not finite")));
  open().save_block(0, block(0), {});
  recipe_.weight.bits = 3;
  EXPECT_THAT(message_of<FormatError>([&] { open().block(0); }), HasSubstr("expected U8"));
}

TEST_F(Journal, LeftTemporaryFilesAreIgnored) {
  open().save_state("block-0", state_with(1));
  write_bytes(directory_ / "state.safetensors.partial", "half");
  write_bytes(directory_ / "block-00000.safetensors.partial", "half");
  write_bytes(directory_ / "journal.json.partial", "half");
  ResumeJournal journal = open();
  EXPECT_EQ(journal.finished_blocks(), 0);
  expect_equal(journal.state("block-0").value(), state_with(1));
  journal.save_block(0, block(0), {});
  expect_equal(open().block(0), block(0));
}

TEST_F(Journal, AFullDiskKeepsWhatWasSaved) {
  ResumeJournal journal = open();
  {
    const FileSizeLimit full(10);
    EXPECT_THAT(message_of<SystemError>([&] { journal.save_state("block-0", state_with(1)); }),
                HasSubstr("free some disk space"));
  }
  EXPECT_FALSE(open().resumed());
  journal.save_block(0, block(0), {});
  journal.save_state("block-1", state_with(1));
  const auto size = fs::file_size(state_);
  for (const rlim_t limit : {rlim_t{0}, rlim_t{100}, size / 2, size - 1}) {
    {
      const FileSizeLimit full(limit);
      EXPECT_THAT(message_of<SystemError>([&] { journal.save_state("block-1", state_with(2)); }),
                  AllOf(HasSubstr(directory_.string()), HasSubstr("cannot write"), HasSubstr("free some disk space")));
      EXPECT_THROW(journal.save_block(1, block(1), {}), SystemError);
    }
    EXPECT_EQ(journal.finished_blocks(), 1);
    const ResumeJournal again = open();
    EXPECT_EQ(again.finished_blocks(), 1);
    expect_equal(again.block(0), block(0));
    expect_equal(again.state("block-1").value(), state_with(1));
    for (const auto& entry : fs::directory_iterator(directory_)) EXPECT_NE(entry.path().extension(), ".partial");
  }
  journal.save_state("block-1", state_with(2));
  expect_equal(open().state("block-1").value(), state_with(2));
}

/// Runs `work` in a child process that is killed after `delay`.
void kill_after(std::chrono::microseconds delay, const std::function<void()>& work) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    try {
      work();
    } catch (...) {
      ::_exit(2);
    }
    ::_exit(1);
  }
  std::this_thread::sleep_for(delay);
  ::kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status)) << "the child ended by itself: " << status;
}

TEST_F(Journal, AProcessKilledAtAnyMomentLeavesAReadableJournal) {
  constexpr std::size_t count = 30'000;  // a write long enough to be killed inside
  Random random(3, "delays");
  float last = 0;
  std::int64_t progress = 0;
  std::int64_t torn = 0;
  const auto begin = std::chrono::steady_clock::now();
  open().save_state("e2e", state_with(last, count));
  const auto save = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin);
  const auto longest = static_cast<std::uint64_t>(std::clamp<std::int64_t>(6 * save.count(), 10'000, 300'000));
  // At least 40 kills, and more until some have come inside a write and some after one, however slow this disk is now.
  for (int round = 0; round < 40 || (round < 300 && (progress < 3 || torn < 3)); ++round) {
    kill_after(std::chrono::microseconds(500 + random.below(longest)), [&] {
      ResumeJournal journal = open();
      for (float value = last + 1;; value += 1) {
        if (static_cast<int>(value) % 5 == 0) {
          journal.save_block(0, block(0), Json{{"at", value}});
          journal.save_block(1, block(1), Json{{"at", value}});
        }
        journal.save_state("e2e", state_with(value, count));
      }
    });
    const ResumeJournal journal = open();
    for (std::int64_t i = 0; i < journal.finished_blocks(); ++i) {
      expect_equal(journal.block(i), block(i));
      EXPECT_EQ(journal.block_notes(i)["at"].get<int>() % 5, 0);
    }
    if (const auto state = journal.state("e2e")) {
      const float value = state->notes["epoch"].get<float>();
      EXPECT_GE(value, last);
      progress += value > last ? 1 : 0;
      last = value;
      expect_equal(*state, state_with(value, count));
    }
    for (const auto& entry : fs::directory_iterator(directory_.parent_path().parent_path())) {
      EXPECT_EQ(entry.path().filename(), "out.partial");
    }
    torn += fs::remove(state_.string() + ".partial") ? 1 : 0;
  }
  EXPECT_GE(progress, 3);
  EXPECT_GE(torn, 3) << "too few kills came in the middle of a write: this test has shown nothing";
}

/// The broken variant: saved in place, as no journal may be, kills in the middle leave files that are noticed.
TEST_F(Journal, AFileWrittenInPlaceWouldBeTorn) {
  constexpr std::size_t count = 300'000;
  Random random(4, "delays");
  int torn = 0;
  open().save_state("e2e", state_with(1, count));
  const std::string whole = read_bytes(state_);
  for (int round = 0; round < 40 && torn == 0; ++round) {
    kill_after(std::chrono::microseconds(500 + random.below(5'000)), [&] {
      for (;;) write_bytes(state_, whole);
    });
    try {
      open().state("e2e");
    } catch (const FormatError&) {
      ++torn;
    }
  }
  EXPECT_GT(torn, 0);
}

TEST_F(Journal, ASealedFileNamesTheEntryThatIsMissing) {
  const fs::path path = temporary_.path() / "x.safetensors";
  write_sealed_tensors(path, {}, {{"notes", "1"}});
  const SealedTensors file(path);
  EXPECT_EQ(file.metadata("notes"), "1");
  EXPECT_THAT(message_of<FormatError>([&] { file.metadata("phase"); }), HasSubstr("no metadata entry 'phase'"));
  testing::write_random_tensors(path, {{"a", DType::f32, {2}}});
  EXPECT_THAT(message_of<FormatError>([&] { const SealedTensors plain(path); }),
              HasSubstr("no metadata entry 'content'"));
}

}  // namespace
}  // namespace pq::io
