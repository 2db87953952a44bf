#include <gtest/gtest.h>
#include <sys/resource.h>
#include <zlib.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <fstream>
#include <functional>
#include <limits>
#include <regex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "base/half.h"
#include "base/json.h"
#include "base/log.h"
#include "base/parallel_for.h"
#include "base/phase_timer.h"
#include "base/progress.h"
#include "base/random.h"
#include "base/suggest.h"

namespace pq {
namespace {

namespace fs = std::filesystem;

fs::path fresh_directory(const std::string& name) {
  const fs::path path = fs::path(testing::TempDir()) / name;
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

TEST(Half, EveryF16ValueSurvivesTheRoundTrip) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = f16_to_float(half);
    if (std::isnan(value)) continue;
    ASSERT_EQ(float_to_f16(value), half) << bits;
    ASSERT_EQ(float_to_bf16(bf16_to_float(half)), half) << bits;
  }
}

TEST(Half, RoundsHalfToEvenAtEveryMidpoint) {
  for (std::uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const double low = f16_to_float(static_cast<std::uint16_t>(bits));
    const double high = f16_to_float(static_cast<std::uint16_t>(bits + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    ASSERT_EQ(float_to_f16(middle), bits + (bits & 1U)) << bits;
    ASSERT_EQ(float_to_f16(std::nextafter(middle, 0.0F)), bits);
    ASSERT_EQ(float_to_f16(std::nextafter(middle, 1e9F)), bits + 1);
  }
  EXPECT_EQ(float_to_f16(65519.99F), 0x7bff);
  EXPECT_EQ(float_to_f16(65520.0F), 0x7c00);
  EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(Random, IsTheSameEverywhereAndSeparatesStreams) {
  Random a(7, "calibration");
  Random b(7, "calibration");
  Random c(7, "rotation");
  EXPECT_EQ(a.next(), b.next());
  EXPECT_NE(a.next(), c.next());
  std::vector<int> counts(5);
  for (int i = 0; i < 50000; ++i) ++counts[a.below(5)];
  for (const int count : counts) EXPECT_NEAR(count, 10000, 500);
}

TEST(ParallelFor, CoversEveryIndexOnceAndCarriesErrorsOut) {
  for (const int threads : {1, 2, 5}) {
    set_thread_count(threads);
    std::vector<std::atomic<int>> seen(10007);
    parallel_for(seen.size(), 3, [&](std::size_t begin, std::size_t end) {
      parallel_for(end - begin, 1, [&](std::size_t from, std::size_t to) {
        for (std::size_t i = from; i < to; ++i) ++seen[begin + i];
      });
    });
    for (const auto& count : seen) ASSERT_EQ(count, 1);
    EXPECT_THROW(parallel_for(100, 1, [](std::size_t, std::size_t) { throw InputError("a", "b"); }), InputError);
  }
  set_thread_count(0);
}

TEST(ParallelRanges, CoverEveryIndexOnceAndShareNoThread) {
  for (const int threads : {1, 2, 3, 8}) {
    set_thread_count(threads);
    for (const std::size_t count : {1U, 2U, 5U, 64U, 1000U}) {
      for (const std::size_t grain : {1U, 3U, 16U}) {
        for (const Split split : {Split::fine, Split::even}) {
          std::vector<std::atomic<int>> seen(count);
          std::vector<std::atomic<int>> busy(static_cast<std::size_t>(threads));
          std::atomic<std::size_t> pieces = 0;
          std::atomic<bool> clean = true;
          const auto body = [&](std::size_t begin, std::size_t end, std::size_t thread) {
            if (thread >= busy.size() || begin % grain != 0 || busy[thread].fetch_add(1) != 0) clean = false;
            for (std::size_t i = begin; i < end; ++i) ++seen[i];
            ++pieces;
            if (thread < busy.size()) --busy[thread];
          };
          parallel_ranges(count, grain, split, body);
          EXPECT_TRUE(clean);
          EXPECT_TRUE(split == Split::fine || pieces <= static_cast<std::size_t>(threads));
          for (const auto& times : seen) ASSERT_EQ(times, 1);
        }
      }
    }
  }
  set_thread_count(0);
}

// Threads that have gone to sleep, threads that still look for work and callers that end at once, in turn.
TEST(ParallelRanges, ManyRegionsWithAndWithoutPauses) {
  set_thread_count(4);
  std::atomic<std::size_t> sum = 0;
  const auto body = [&](std::size_t begin, std::size_t end, std::size_t) { sum += end - begin; };
  std::size_t expected = 0;
  for (int round = 0; round < 20; ++round) {
    for (std::size_t i = 0; i < 500; ++i) {
      parallel_ranges(i % 9 + 1, 1, i % 2 == 0 ? Split::even : Split::fine, body);
      expected += i % 9 + 1;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(sum, expected);
  set_thread_count(0);
}

TEST(ParallelRanges, CallersOnSeveralThreadsAndErrors) {
  set_thread_count(3);
  std::vector<std::thread> callers;
  std::atomic<std::size_t> sum = 0;
  std::atomic<int> caught = 0;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&, caller] {
      for (int i = 0; i < 200; ++i) {
        const auto body = [&](std::size_t begin, std::size_t end, std::size_t) {
          if (caller == 0 && begin == 0) throw InputError("a", "b");
          sum += end - begin;
        };
        try {
          parallel_ranges(10, 1, Split::fine, body);
        } catch (const InputError&) {
          ++caught;
        }
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(caught, 200);
  EXPECT_GE(sum, 6000U);
  set_thread_count(0);
}

TEST(Files, ReadsPlainAndGzipText) {
  const fs::path dir = fresh_directory("pq_files");
  std::string text;
  for (int i = 0; i < 100000; ++i) text += std::to_string(i) + "\n";
  std::ofstream(dir / "a.txt") << text;
  gzFile file = gzopen((dir / "a.gz").c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
  EXPECT_EQ(read_text_file(dir / "a.txt"), text);
  EXPECT_EQ(read_text_file(dir / "a.gz"), text);
  fs::resize_file(dir / "a.gz", fs::file_size(dir / "a.gz") / 2);
  EXPECT_THROW(read_text_file(dir / "a.gz"), FormatError);
  EXPECT_THROW(read_text_file(dir / "none"), InputError);
}

TEST(Files, AFileThatCannotBeFinishedLeavesTheOldOne) {
  const fs::path path = fs::path(testing::TempDir()) / "pq_atomic_file";
  write_file_atomically(path, "old");
  EXPECT_THROW(write_file_atomically(path,
                                     [](OutputFile& file) {
                                       file.write("half");
                                       throw SystemError("disk", "is full");
                                     }),
               SystemError);
  EXPECT_EQ(read_text_file(path), "old");
  EXPECT_FALSE(fs::exists(path.string() + ".partial"));
  write_file_atomically(path, [](OutputFile& file) { file.write("new"); });
  EXPECT_EQ(read_text_file(path), "new");
  fs::remove(path);
}

TEST(Files, AFullDiskIsAnErrorThatNamesTheFile) {
  const fs::path dir = fresh_directory("pq_full");
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  std::string message;
  try {
    OutputFile file(dir / "big");
    file.write(std::string(5000, 'x'));
  } catch (const SystemError& error) {
    message = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &old);
  EXPECT_NE(message.find("big"), std::string::npos);
  EXPECT_NE(message.find("free some disk space"), std::string::npos);
}

TEST(Json, RefusesGarbageAndDepthByName) {
  EXPECT_THROW(parse_json("{\"a\": [1, 2", "x.json"), FormatError);
  EXPECT_THROW(parse_json(std::string(5000, '['), "x.json"), FormatError);
  try {
    parse_json("{\"a\" 1}", "some/x.json");
  } catch (const FormatError& error) {
    EXPECT_EQ(std::string(error.what()).find("some/x.json: "), 0U);
  }
}

TEST(Json, OfEqualKeysTheLastValueCountsAtTheFirstPlace) {
  const Json json = parse_json(R"({"a": 1, "b": [{"x": 1, "x": null}], "a": {"c": 2}, "d": "e", "b": 7, "a": 3})", "x");
  EXPECT_EQ(json.dump(), R"({"a":3,"b":7,"d":"e"})");
  EXPECT_EQ(parse_json(R"([{"x": 1, "y": 2, "x": null}, {}, []])", "x").dump(), R"([{"x":null,"y":2},{},[]])");
}

TEST(Json, ReadsAsTheLibraryDoes) {
  for (const char* text : {"null", " true ", "-3", "18446744073709551615", "0.1", "1e300", "\"\\u00e9\\ud83d\\ude00\"",
                           "[]", "{}", "[[], {}, [1, [2]], {\"b\": {\"a\": [null]}, \"a\": false}]"}) {
    EXPECT_EQ(parse_json(text, "x"), Json::parse(text)) << text;
    EXPECT_EQ(parse_json(text, "x").dump(), Json::parse(text).dump());
  }
  EXPECT_THROW(parse_json("1e999", "x"), FormatError);
  EXPECT_THROW(parse_json("[1] 2", "x"), FormatError);
  EXPECT_NO_THROW(parse_json("[[1]]", "x", 2));
  EXPECT_THROW(parse_json("[[1]]", "x", 1), FormatError);
  EXPECT_THROW(parse_json(R"({"a": {"b": {}}})", "x", 1), FormatError);
}

TEST(Json, AnObjectOfManyKeysDoesNotTakeMinutes) {
  constexpr int count = 200000;
  std::string text = "{";
  for (int i = 0; i < count; ++i) text += "\"model.tensor." + std::to_string(i) + "\":" + std::to_string(i) + ",";
  text += "\"model.tensor.0\":-1}";
  const Json json = parse_json(text, "x");
  EXPECT_EQ(json.size(), static_cast<std::size_t>(count));
  EXPECT_EQ(json.begin().value(), -1);
}

TEST(Suggest, FindsTypos) {
  const std::vector<std::string> names{"w4a4kv4-static", "w4a4kv4-dynamic", "w4a16g128"};
  EXPECT_EQ(did_you_mean("w4a4kv4-statik", names), "did you mean 'w4a4kv4-static'?");
  EXPECT_EQ(did_you_mean("zzzzzzzzzzzzzzz", names), "one of: w4a4kv4-static, w4a4kv4-dynamic, w4a16g128");
}

TEST(Progress, FormatsDurationsAndSizes) {
  EXPECT_EQ(format_duration(3725), "1:02:05");
  EXPECT_EQ(format_duration(0.42), "0.4s");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
}

TEST(PhaseTimer, SpeaksWhenVerboseAndWhenNothingWentWrong) {
  const LogLevel before = log_level();
  const auto lines_of = [](LogLevel level, const std::function<void()>& work) {
    set_log_level(level);
    testing::internal::CaptureStderr();
    work();
    return testing::internal::GetCapturedStderr();
  };
  const auto phase = [] { const PhaseTimer timer("prefill"); };
  const auto failing = [] {
    try {
      const PhaseTimer timer("prefill");
      throw std::runtime_error("no");
    } catch (const std::runtime_error&) {
    }
  };
  EXPECT_EQ(lines_of(LogLevel::normal, phase), "");
  EXPECT_EQ(lines_of(LogLevel::verbose, failing), "");
  EXPECT_TRUE(std::regex_match(lines_of(LogLevel::verbose, phase),
                               std::regex("prefill: \\d+\\.\\d\\d s, peak memory [0-9.]+ [KMGT]?i?B\n")));
  set_log_level(before);
}

TEST(Error, IsOneLine) { EXPECT_STREQ(InputError("a\nb", "what", "do this").what(), "a b: what; do this"); }

}  // namespace
}  // namespace pq
