#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <type_traits>

namespace pq {

/// Number of threads parallel_for uses; 0 at start means one for each processor this process may use.
void set_thread_count(int threads);
int thread_count();
/// What 0 stands for where this process may use fewer processors than the system says: it shares them with others.
void set_available_processors(int processors);

/// Calls body(begin, end) on disjoint ranges that cover [0, count), each at least `grain` long except the last, on
/// thread_count() threads (the caller is one). Returns when all are done; the first exception thrown is rethrown.
/// Calls from inside a body run on the calling thread alone.
void parallel_for(std::size_t count, std::size_t grain, const std::function<void(std::size_t, std::size_t)>& body);

/// How a range is cut up.
enum class Split {
  fine,  ///< about four ranges a thread, so that a thread that is held up does not hold up the rest
  even,  ///< one range a thread: for short work over neighbouring memory
};

/// A reference to a callable body(begin, end, thread), 0 <= thread < thread_count(): no allocation. The callable
/// outlives the call.
class RangeBody {
 public:
  template <typename Body,
            typename = std::enable_if_t<std::is_invocable_v<const Body&, std::size_t, std::size_t, std::size_t>>>
  RangeBody(const Body& body)  // NOLINT(google-explicit-constructor): stands for the callable
      : object_(std::addressof(body)),
        call_([](const void* object, std::size_t begin, std::size_t end, std::size_t thread) {
          (*static_cast<const Body*>(object))(begin, end, thread);
        }) {}
  void operator()(std::size_t begin, std::size_t end, std::size_t thread) const { call_(object_, begin, end, thread); }

 private:
  const void* object_;
  void (*call_)(const void*, std::size_t, std::size_t, std::size_t);
};

/// As parallel_for; ranges begin at multiples of `grain`, and no two that run at once have the same `thread`, so that
/// it can select scratch memory. Costs about a microsecond while calls follow each other closely.
void parallel_ranges(std::size_t count, std::size_t grain, Split split, RangeBody body);

}  // namespace pq
