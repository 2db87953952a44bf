#pragma once

#include "kernels/kernels.h"

// The definition of every kernel, in plain loops compiled without any instruction set's flags: what the others are
// tested against, and what runs where none of them does. Arguments as in KernelTable.

namespace pq::kernels::scalar {

void int_gemm(const IntGemm& gemm, std::int64_t first_panel, std::int64_t last_panel, void* scratch) noexcept;
void float_gemm(const FloatGemm& gemm, std::int64_t first_panel, std::int64_t last_panel, void* scratch) noexcept;
void attend(const Attention& attention, void* scratch) noexcept;

void rms_norm(const float* x, const float* gamma, float eps, std::int64_t n, float* out) noexcept;
void norm_quantize(const float* x, const float* gamma, float eps, const QuantizeRow& spec, const QuantizedRow& out,
                   float* scratch) noexcept;
void quantize_row(const float* x, const QuantizeRow& spec, const QuantizedRow& out) noexcept;
void min_max(const float* x, std::int64_t n, float* min, float* max) noexcept;
void rope(float* x, std::int64_t heads, std::int64_t head_dim, std::int64_t width, const float* cos,
          const float* sin) noexcept;
void hadamard(float* row, const Hadamard& plan, float* scratch) noexcept;
void multiply_rows(float* rows, std::int64_t count, std::int64_t n, const float* matrix, float* scratch) noexcept;
void f16_to_float(const std::uint16_t* x, std::int64_t n, float* out) noexcept;
void bf16_to_float(const std::uint16_t* x, std::int64_t n, float* out) noexcept;
void float_to_bf16(const float* x, std::int64_t n, std::uint16_t* out) noexcept;

double int8_peak(std::int64_t rounds) noexcept;
double f32_peak(std::int64_t rounds) noexcept;
void read_memory(const void* memory, std::int64_t bytes) noexcept;

}  // namespace pq::kernels::scalar
