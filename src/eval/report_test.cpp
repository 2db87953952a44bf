#include "eval/report.h"

#include <gtest/gtest.h>

namespace pq::eval {
namespace {

Report report() {
  Report made;
  made.model = "OUT";
  made.rows.push_back({"w4a4kv4-static", "w4a4kv4-static", {}});
  ComparisonResult& result = made.rows[0].results.emplace_back();
  result.perplexity = 7.25;
  result.mean_nll = 2;
  result.chunks = 3;
  result.tokens = 765;
  result.seconds = 0.5;
  result.kl_divergence = 0.125;
  result.top1_agreement = 0.75;
  made.text.path = "wiki.txt";
  made.text.lengths = {256};
  made.text_tokens = 800;
  made.prefix_token_ids = {5, 1};
  return made;
}

/// Without peak_memory_bytes, which is this process'.
std::string dump(Json json) {
  EXPECT_GT(json["peak_memory_bytes"].get<double>(), 0);
  json.erase("peak_memory_bytes");
  for (Json& row : json["rows"]) row.erase("peak_memory_bytes");
  return json.dump();
}

TEST(Report, OneModelOnAnEngine) {
  Report made = report();
  made.engine = {{"lm_head_bits", 16}, {"kernels", "avx2"}};
  made.remark = "; kernels avx2";
  EXPECT_EQ(
      dump(made.json()),
      R"({"model":"OUT","name":"w4a4kv4-static","recipe":"w4a4kv4-static","perplexity":7.25,"mean_nll":2.0,)"
      R"("seconds":0.5,"text":"wiki.txt","text_tokens":800,"length":256,"chunks":3,"predicted_tokens":765,"prefix_token_ids":[5,1],)"
      R"("lm_head_bits":16,"kernels":"avx2","rows":[]})");
  EXPECT_EQ(made.table(),
            "model           perplexity  seconds\n"
            "--------------  ----------  -------\n"
            "w4a4kv4-static       7.250      0.5\n"
            "wiki.txt: 3 chunks of 256 tokens; kernels avx2\n");
}

TEST(Report, ComparedWithOthers) {
  Report made = report();
  made.compared = true;
  made.rows.push_back({"FP16", "fp16", made.rows[0].results});
  made.rows[1].results[0].kl_divergence = 0;
  made.rows[1].results[0].top1_agreement = 1;
  EXPECT_EQ(
      dump(made.json()),
      R"({"model":"OUT","name":"w4a4kv4-static","recipe":"w4a4kv4-static","perplexity":7.25,"mean_nll":2.0,)"
      R"("kl_divergence":0.125,"top1_agreement":0.75,"seconds":0.5,"text":"wiki.txt","text_tokens":800,"length":256,)"
      R"("chunks":3,"predicted_tokens":765,"prefix_token_ids":[5,1],"rows":[{"name":"FP16","recipe":"fp16","perplexity":7.25,)"
      R"("mean_nll":2.0,"kl_divergence":0.0,"top1_agreement":1.0,"seconds":0.5}]})");
  EXPECT_EQ(made.table(),
            "model           perplexity  KL divergence  top-1 agreement  seconds\n"
            "--------------  ----------  -------------  ---------------  -------\n"
            "w4a4kv4-static       7.250        0.12500           75.00%      0.5\n"
            "FP16                 7.250        0.00000          100.00%      0.5\n"
            "wiki.txt: 3 chunks of 256 tokens; distances from FP16\n");
}

TEST(Report, OfSeveralLengthsHasALineForEach) {
  Report made = report();
  made.text.lengths = {256, 1024};
  made.rows[0].results.push_back(made.rows[0].results[0]);
  made.rows[0].results[1].perplexity = 6.5;
  made.rows[0].results[1].chunks = 1;
  EXPECT_EQ(made.table(),
            "model           length  perplexity  seconds\n"
            "--------------  ------  ----------  -------\n"
            "w4a4kv4-static     256       7.250      0.5\n"
            "                  1024       6.500      0.5\n"
            "wiki.txt: 3 chunks of 256 tokens, 1 chunk of 1024 tokens\n");
  const Json json = made.json();
  EXPECT_EQ(json["length"], 256);
  EXPECT_EQ(json["perplexity"], 7.25);
  ASSERT_EQ(json["lengths"].size(), 2U);
  EXPECT_EQ(json["lengths"][0]["perplexity"], 7.25);
  EXPECT_EQ(json["lengths"][1]["length"], 1024);
  EXPECT_EQ(json["lengths"][1]["chunks"], 1);
  EXPECT_EQ(json["lengths"][1]["perplexity"], 6.5);
  EXPECT_EQ(json["lengths"][1]["rows"], Json::array());
}

TEST(Report, SaysHowWindowsWereCut) {
  Report made = report();
  made.text.stride = 64;
  EXPECT_EQ(made.json()["stride"], 64);
  EXPECT_TRUE(made.table().ends_with("wiki.txt: 3 windows of 256 tokens, stride 64\n")) << made.table();
  made.text.stride = 0;
  made.text.llama_cpp_chunks = true;
  EXPECT_EQ(made.json()["llama_cpp_chunks"], true);
  EXPECT_TRUE(made.table().ends_with("3 chunks of 256 tokens, the second half scored (as llama.cpp)\n"));
}

}  // namespace
}  // namespace pq::eval
