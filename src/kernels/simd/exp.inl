// exp and what is made of it, on the vocabulary of vec.h. Included inside the namespace of one instruction set.

struct Yes {
  constexpr operator bool() const { return true; }  // NOLINT(google-explicit-constructor)
};
struct No {
  constexpr operator bool() const { return false; }  // NOLINT(google-explicit-constructor)
};

/// e^x, relative error below 2e-7 (2 ulp) for -87 <= x <= 88; smaller x give less than 2^-125, those below -87.7 (and
/// -inf) 0, larger ones e^88. A NaN stays one.
inline F f_exp(F x) {
  x = f_min(f_set(88.0F), f_max(f_set(-88.0F), x));  // in this order a NaN passes through on every processor
  const F n = f_round(f_mul(x, f_set(1.44269504088896341F)));
  F r = f_fnma(n, f_set(0.693359375F), x);
  r = f_fnma(n, f_set(-2.12194440e-4F), r);
  F y = f_set(1.9875691500e-4F);
  y = f_fma(y, r, f_set(1.3981999507e-3F));
  y = f_fma(y, r, f_set(8.3334519073e-3F));
  y = f_fma(y, r, f_set(4.1665795894e-2F));
  y = f_fma(y, r, f_set(1.6666665459e-1F));
  y = f_fma(y, r, f_set(5.0000001201e-1F));
  y = f_add(f_fma(f_mul(y, r), r, r), f_set(1.0F));
  return f_mul(y, f_exp2i(n));
}

/// 2^x for x <= 127, relative error below 3.5e-6; x below -126 (and -inf) gives 2^-126.
inline F f_exp2(F x) {
  x = f_max(x, f_set(-126.0F));
  const F n = f_round(x);
  const F r = f_sub(x, n);
  F y = f_set(1.339887440e-3F);
  y = f_fma(y, r, f_set(9.618437357e-3F));
  y = f_fma(y, r, f_set(5.550332548e-2F));
  y = f_fma(y, r, f_set(2.402264791e-1F));
  y = f_fma(y, r, f_set(6.931472028e-1F));
  y = f_fma(y, r, f_set(1.0F));
  return f_mul(y, f_exp2i(n));
}

/// x / (1 + e^-x); below -88, where that is less than 10^-36, its value at -88.
inline F f_silu(F x) {
  const F bounded = f_max(f_set(-88.0F), x);
  return f_div(bounded, f_add(f_set(1.0F), f_exp(f_sub(f_zero(), bounded))));
}

/// x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3); 2u is kept from falling below -88, where the quotient is less
/// than 10^-36.
inline F f_gelu_tanh(F x) {
  const F cubic = f_fma(f_mul(f_set(0.044715F), f_mul(x, x)), x, x);
  const F bounded = f_max(f_set(-88.0F), f_mul(f_set(1.5957691216F), cubic));
  return f_div(x, f_add(f_set(1.0F), f_exp(f_sub(f_zero(), bounded))));
}
