#pragma once

#include <cstddef>
#include <functional>

namespace pq {

/// Number of threads parallel_for uses; 0 at start means one for each processor this process may use.
void set_thread_count(int threads);
int thread_count();

/// Calls body(begin, end) on disjoint ranges that cover [0, count), each at least `grain` long except the last, on
/// thread_count() threads (the caller is one). Returns when all are done; the first exception thrown is rethrown.
/// Calls from inside a body run on the calling thread alone.
void parallel_for(std::size_t count, std::size_t grain, const std::function<void(std::size_t, std::size_t)>& body);

}  // namespace pq
