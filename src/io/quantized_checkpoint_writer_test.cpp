#include <gmock/gmock.h>

#include <stdexcept>
#include <string>

#include "base/disk_space.h"
#include "io/quantized_checkpoint.h"
#include "io/quantized_checkpoint_for_test.h"

namespace pq::io {
namespace {

using ::testing::AllOf;
using testing::expect_equal;
using testing::FileSizeLimit;
using ::testing::HasSubstr;
using testing::message_of;
using testing::read_bytes;
using testing::small_config;
using testing::write_bytes;

TEST_F(Quantized, WritesConfigAndCompanions) {
  write(recipe_with("w4a4kv4-static"), 2);
  const QuantizedCheckpoint checkpoint = QuantizedCheckpoint::open(out_.string());
  EXPECT_TRUE(is_quantized_checkpoint(out_));
  EXPECT_EQ(checkpoint.config()["hidden_size"], 16);
  EXPECT_EQ(checkpoint.config()["tie_word_embeddings"], false);
  EXPECT_EQ(checkpoint.config()["quantization_config"]["format_version"], 2);
  EXPECT_EQ(checkpoint.prefix_text(), "the text");
  EXPECT_EQ(checkpoint.provenance()["note"], "a test");
  EXPECT_EQ(checkpoint.provenance()["source"], "source");
  EXPECT_EQ(checkpoint.provenance()["calibration"], "self");
  EXPECT_THAT(checkpoint.provenance()["program"].get<std::string>(), HasSubstr("prefixquant "));
  EXPECT_EQ(read_bytes(out_ / "tokenizer.json"), read_bytes(source_ / "tokenizer.json"));
  EXPECT_TRUE(fs::exists(out_ / "chat_template.jinja"));
  EXPECT_FALSE(fs::exists(out_ / "README.md"));
  EXPECT_THAT(message_of<UnsupportedError>([&] { HfCheckpoint::open(out_.string()); }),
              HasSubstr("already quantized, by prefixquant"));
  EXPECT_THAT(message_of<InputError>([&] { QuantizedCheckpoint::open(source_.string()); }), HasSubstr("pq quantize"));
}

TEST_F(Quantized, TheSameContentsGiveTheSameBytes) {
  write(recipe_with("w4a4kv4-static"), 2);
  const std::string first = read_bytes(out_ / "model.safetensors") + read_bytes(out_ / "config.json");
  write(recipe_with("w4a4kv4-static"), 2, default_shard_bytes, true);
  EXPECT_EQ(read_bytes(out_ / "model.safetensors") + read_bytes(out_ / "config.json"), first);
}

TEST_F(Quantized, ShardsStayBelowTheLimitAndAnIndexListsThem) {
  write(recipe_with("w4a4kv4-static"), 2, 2000);
  const Json index = read_json_file(out_ / "model.safetensors.index.json");
  std::uint64_t sum = 0;
  std::map<std::string, std::uint64_t> shard_bytes;
  for (const auto& tensor : QuantizedCheckpoint::open(out_.string()).tensors()) {
    shard_bytes[tensor.file] += tensor.bytes;
    sum += tensor.bytes;
    EXPECT_EQ((out_ / index["weight_map"][tensor.name].get<std::string>()).string(), tensor.file);
  }
  EXPECT_GT(shard_bytes.size(), 2U);
  EXPECT_EQ(index["metadata"]["total_size"], sum);
  for (const auto& [file, bytes] : shard_bytes) EXPECT_LE(bytes, 2000U) << file;
}

TEST_F(Quantized, RefusesToReplaceWhatItShouldNot) {
  write(recipe_with("w4a4kv4-static"), 0);
  const HfCheckpoint source = HfCheckpoint::open(source_.string());
  const auto open = [&](const fs::path& out, bool replace) {
    return message_of<InputError>([&] { QuantizedCheckpointWriter(source, out, CheckpointHeader{}, replace); });
  };
  EXPECT_THAT(open(out_, false), AllOf(HasSubstr("already exists"), HasSubstr("--force")));
  EXPECT_THAT(open(source_, false), HasSubstr("already exists"));
  EXPECT_THAT(open(source_, true), HasSubstr("holds the model that is being quantized"));
  EXPECT_THAT(open(directory_.path(), true), HasSubstr("holds the model that is being quantized"));
  const fs::path other = directory_.path() / "other";
  fs::copy(source_, other);
  EXPECT_THAT(open(other, true), HasSubstr("holds an unquantized model"));
  EXPECT_TRUE(fs::exists(other / "model.safetensors"));
  write_bytes(out_ / "thesis.txt", "x");
  EXPECT_THAT(open(out_, true), HasSubstr("out/thesis.txt: is no part of a checkpoint"));
  EXPECT_FALSE(fs::exists(source_.string() + ".partial"));
}

TEST_F(Quantized, ReplacesItsOwnTextsAndNoOthers) {
  texts_ = {{"README.md", "# A card\n"}, {"report.html", "<html></html>\n"}};
  const Recipe recipe = recipe_with("w4a4kv4-static");
  write(recipe, 0);
  const std::string card = read_bytes(out_ / "README.md");
  EXPECT_THAT(card, ::testing::MatchesRegex("# A card\n<!-- prefixquant [0-9a-f]+ -->\n"));
  EXPECT_NO_THROW(QuantizedCheckpoint::open(out_.string()));
  write(recipe, 0, default_shard_bytes, true);
  EXPECT_EQ(read_bytes(out_ / "README.md"), card);
  const HfCheckpoint source = HfCheckpoint::open(source_.string());
  for (const std::string& other : {"# My card\n" + card.substr(card.find("<!--")), card + "One line more.\n",
                                   std::string("# A card\n"), std::string()}) {
    write_bytes(out_ / "README.md", other);
    EXPECT_THAT(message_of<InputError>([&] { QuantizedCheckpointWriter::check_output(source, out_, true); }),
                HasSubstr("out/README.md: is no part of a checkpoint"));
  }
  fs::remove_all(out_);
  texts_ = {{"thesis.txt", "x"}};
  EXPECT_THROW(write(recipe, 0), std::logic_error);
}

TEST_F(Quantized, ALeftWriterLeavesNothing) {
  const HfCheckpoint source = HfCheckpoint::open(source_.string());
  {
    QuantizedCheckpointWriter writer(source, out_, checkpoint_header(source.spec(), recipe_with("w4a4kv4-static")),
                                     false);
    writer.append_rows(tensor_names::embedding, std::vector<std::uint16_t>(16));
    EXPECT_THROW(writer.commit(), std::logic_error);
  }
  EXPECT_FALSE(fs::exists(out_.parent_path()));
}

TEST_F(Quantized, AWriterIntoAnOpenDirectoryLeavesItsUnfinishedWork) {
  const HfCheckpoint source = HfCheckpoint::open(source_.string());
  const Recipe recipe = recipe_with("w4a4kv4-static");
  const Contents contents = random_contents(source.spec(), recipe, 0);
  const fs::path partial = out_.string() + ".partial";
  const auto open = [&] {
    auto directory =
        std::make_unique<OutputDirectory>(out_, QuantizedCheckpointWriter::output_kind(), false, Unfinished::keep);
    fs::create_directory(directory->resume());
    write_bytes(directory->resume() / "work", "x");
    return std::make_unique<QuantizedCheckpointWriter>(source, std::move(directory),
                                                       checkpoint_header(source.spec(), recipe));
  };
  open();
  EXPECT_EQ(read_bytes(partial / "resume" / "work"), "x");
  EXPECT_FALSE(fs::exists(partial / "config.json"));
  EXPECT_THAT(message_of<InputError>([&] { QuantizedCheckpointWriter::check_output(source, out_, false); }),
              AllOf(HasSubstr("out.partial"), HasSubstr("unfinished work")));
  EXPECT_THROW(QuantizedCheckpointWriter(source, out_, checkpoint_header(source.spec(), recipe), false), InputError);
  EXPECT_NO_THROW(QuantizedCheckpointWriter::check_output(source, out_, false, Unfinished::keep));
  EXPECT_NO_THROW(QuantizedCheckpointWriter::check_output(source, out_, false, Unfinished::discard, true));
  const auto writer = open();
  write_all(*writer, contents);
  writer->commit();
  EXPECT_FALSE(fs::exists(out_ / "resume"));
  EXPECT_FALSE(fs::exists(partial));
  expect_equal(QuantizedCheckpoint::open(out_.string()).block(1), contents.blocks[1]);
}

TEST_F(Quantized, WriterRefusesCallsThatDoNotFit) {
  const HfCheckpoint source = HfCheckpoint::open(source_.string());
  const Recipe recipe = recipe_with("w4a4kv4-static");
  EXPECT_THAT(message_of<InputError>([&] {
                QuantizedCheckpointWriter(source, out_, checkpoint_header(source.spec(), recipe, {11}), false);
              }),
              AllOf(HasSubstr("prefix token 11"), HasSubstr("vocabulary of 11")));
  Contents contents = random_contents(source.spec(), recipe, 1);
  QuantizedCheckpointWriter writer(source, out_, checkpoint_header(source.spec(), recipe, contents.prefix.token_ids),
                                   false);
  EXPECT_THROW(writer.append_rows(tensor_names::lm_head, contents.lm_head),
               std::logic_error);  // the embedding comes first
  contents.prefix.blocks[1].value.pop_back();
  EXPECT_THROW(writer.write_prefix(contents.prefix), std::logic_error);
  EXPECT_THROW(writer.append_rows("model.norm.weight", contents.embedding), std::logic_error);
  EXPECT_THROW(writer.append_rows(tensor_names::embedding, std::span(contents.embedding).first(5)), std::logic_error);
  EXPECT_THROW(QuantizedCheckpoint::open(out_.string()), InputError);
}

TEST_F(Quantized, AFullDiskLeavesNothingBehind) {
  const HfCheckpoint source = HfCheckpoint::open(source_.string());
  const Recipe recipe = recipe_with("w4a4kv4-static");
  const Contents contents = random_contents(source.spec(), recipe, 2);
  write(recipe, 2);
  const rlim_t size = fs::file_size(out_ / "model.safetensors");
  fs::remove_all(out_);
  for (const rlim_t limit : {rlim_t{0}, rlim_t{100}, size / 2, size - 1}) {
    std::string message;
    {
      const FileSizeLimit full(limit);
      message = message_of<SystemError>([&] {
        QuantizedCheckpointWriter writer(source, out_,
                                         checkpoint_header(source.spec(), recipe, contents.prefix.token_ids), false);
        write_all(writer, contents);
        writer.commit();
      });
    }
    EXPECT_THAT(message, AllOf(HasSubstr("out.partial/"), HasSubstr("cannot write"), HasSubstr("free some disk space")))
        << limit;
    EXPECT_TRUE(fs::is_empty(out_.parent_path())) << limit;
  }
}

TEST_F(Quantized, TooLittleFreeSpaceIsSaidBeforeAnythingIsWritten) {
  EXPECT_NO_THROW(require_free_space(directory_.path(), 1, "it"));
  EXPECT_THAT(
      message_of<SystemError>([&] { require_free_space(directory_.path(), std::uint64_t{1} << 60, "the checkpoint"); }),
      AllOf(HasSubstr("the checkpoint needs 1"), HasSubstr("has only"), HasSubstr("free")));
  // A sparse file makes a model that is larger than any disk it is tested on.
  Json config = small_config();
  config["vocab_size"] = std::int64_t{1} << 27;
  config["hidden_size"] = 1 << 13;
  const auto tensors = required_tensors(parse_config(config, "config"));
  const fs::path path = source_ / "model.safetensors";
  fs::remove(path);
  { SafetensorsWriter header_only(path, tensors); }
  std::uint64_t size = fs::file_size(path);
  for (const auto& tensor : tensors) size += tensor.byte_count();
  write_bytes(source_ / "config.json", config.dump());
  std::error_code code;
  if (fs::space(directory_.path()).available > size / 2)
    GTEST_SKIP() << "this disk has more than " << size / 2 << " bytes free";
  fs::resize_file(path, size, code);
  if (code) GTEST_SKIP() << "the file system has no sparse files of " << size << " bytes: " << code.message();
  std::unique_ptr<HfCheckpoint> source;
  try {
    source = std::make_unique<HfCheckpoint>(HfCheckpoint::open(source_.string()));
  } catch (const SystemError& error) {
    GTEST_SKIP() << "a sparse file of " << size << " bytes cannot be mapped: " << error.what();
  }
  EXPECT_THAT(message_of<SystemError>([&] { QuantizedCheckpointWriter(*source, out_, CheckpointHeader{}, false); }),
              AllOf(HasSubstr("the checkpoint needs"), HasSubstr("TiB")));
  EXPECT_FALSE(fs::exists(out_.parent_path()));
}

}  // namespace
}  // namespace pq::io
