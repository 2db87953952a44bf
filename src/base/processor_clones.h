#pragma once

// PQ_CLONES: a function compiled for several instruction sets, the best chosen when the program starts. Not under the
// sanitizers, whose run time is not ready yet when the choice is made; clang 14 has no such attribute.
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define PQ_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define PQ_CLONES
#endif
// PQ_INLINE: what a clone calls is compiled for the clone's instruction set only when it becomes part of it.
#define PQ_INLINE inline __attribute__((always_inline))
