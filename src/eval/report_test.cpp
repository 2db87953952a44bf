#include "eval/report.h"

#include <gtest/gtest.h>

namespace pq::eval {
namespace {

Report report() {
  Report made;
  made.model = "OUT";
  made.rows.push_back({"w4a4kv4-static", "w4a4kv4-static", {}});
  ComparisonResult& result = made.rows[0].result;
  result.perplexity = 7.25;
  result.mean_nll = 2;
  result.chunks = 3;
  result.seconds = 0.5;
  result.kl_divergence = 0.125;
  result.top1_agreement = 0.75;
  made.text.path = "wiki.txt";
  made.text.length = 256;
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
  EXPECT_EQ(dump(made.json()),
            R"({"model":"OUT","name":"w4a4kv4-static","recipe":"w4a4kv4-static","perplexity":7.25,"mean_nll":2.0,)"
            R"("seconds":0.5,"text":"wiki.txt","text_tokens":800,"length":256,"chunks":3,"prefix_token_ids":[5,1],)"
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
  made.rows.push_back({"FP16", "fp16", made.rows[0].result});
  made.rows[1].result.kl_divergence = 0;
  made.rows[1].result.top1_agreement = 1;
  EXPECT_EQ(
      dump(made.json()),
      R"({"model":"OUT","name":"w4a4kv4-static","recipe":"w4a4kv4-static","perplexity":7.25,"mean_nll":2.0,)"
      R"("kl_divergence":0.125,"top1_agreement":0.75,"seconds":0.5,"text":"wiki.txt","text_tokens":800,"length":256,)"
      R"("chunks":3,"prefix_token_ids":[5,1],"rows":[{"name":"FP16","recipe":"fp16","perplexity":7.25,)"
      R"("mean_nll":2.0,"kl_divergence":0.0,"top1_agreement":1.0,"seconds":0.5}]})");
  EXPECT_EQ(made.table(),
            "model           perplexity  KL divergence  top-1 agreement  seconds\n"
            "--------------  ----------  -------------  ---------------  -------\n"
            "w4a4kv4-static       7.250        0.12500           75.00%      0.5\n"
            "FP16                 7.250        0.00000          100.00%      0.5\n"
            "wiki.txt: 3 chunks of 256 tokens; distances from FP16\n");
}

}  // namespace
}  // namespace pq::eval
