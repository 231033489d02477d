// Numbered jobs: worked on by several threads at once, finished one at a time in their order.
//
// That is what makes an image the same bytes on any number of cores: compressing is Work, writing is Finish.
// Memory is bounded by a ring of job slots, which are reused and so keep their buffers.
//
// Which error is reported does not depend on timing: it is that of the first job, by number, that fails. Jobs
// before it are finished, jobs from it on are not.
//
// With one thread there is no thread: Submit does everything. Next, Submit and Drain belong to one caller's
// thread.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <new>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"

namespace image {

inline constexpr unsigned kThreadsMax =
    12;  // Bounds the memory of the slots of two pipelines to under 64 MiB.

// 0 means as many as there are cores.
inline unsigned ThreadsFor(unsigned threads) {
  if (threads == 0) threads = std::thread::hardware_concurrency();
  return threads == 0 ? 1 : threads > kThreadsMax ? kThreadsMax : threads;
}

template <class Job>
class Pipeline {
 public:
  // `worker` is below `threads`: each thread can have a context of its own.
  using Work = std::function<base::Result<void>(unsigned worker, Job&)>;
  using Finish = std::function<base::Result<void>(Job&)>;

  // Requires: 1 <= threads <= kThreadsMax.
  Pipeline(unsigned threads, Work work, Finish finish)
      : work_(std::move(work)),
        finish_(std::move(finish)),
        slots_(threads == 1 ? 1 : threads + std::min(threads, 4u)),
        done_(slots_.size(), 0) {
    CHECK(threads >= 1 && threads <= kThreadsMax);
    if (threads == 1) return;
    for (unsigned worker = 0; worker < threads; ++worker) {
      threads_.emplace_back([this, worker](const std::stop_token& stop) { Loop(worker, stop); });
    }
  }

  // Jobs under way are waited for; others are dropped.
  ~Pipeline() {
    for (std::jthread& thread : threads_) thread.request_stop();
    threads_.clear();
  }
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  // The slot of the next job, for the caller to fill; it still holds what an older job left in it. Waits for
  // a free one. An error is that of an earlier job, and nothing runs any more when it is returned.
  base::Result<Job*> Next() {
    std::unique_lock lock(mutex_);
    free_.wait(lock, [this] { return submitted_ - finished_ < slots_.size(); });
    if (failed()) return Failure(lock);
    return &slot(submitted_);
  }

  // Hands the slot of the last Next to the threads.
  void Submit() {
    std::unique_lock lock(mutex_);
    const uint64_t number = submitted_++;
    if (!threads_.empty()) {
      ready_.notify_one();
      return;
    }
    taken_ = submitted_;
    RunOne(0, number, lock);
  }

  // Waits until all jobs are finished.
  base::Result<void> Drain() {
    std::unique_lock lock(mutex_);
    free_.wait(lock, [this] { return finished_ == submitted_; });
    if (failed()) return Failure(lock);
    return {};
  }

 private:
  Job& slot(uint64_t number) { return slots_[number % slots_.size()]; }
  char& done(uint64_t number) { return done_[number % slots_.size()]; }
  bool failed() const { return failed_number_ != std::numeric_limits<uint64_t>::max(); }

  std::unexpected<base::Error> Failure(std::unique_lock<std::mutex>& lock) {
    free_.wait(lock, [this] { return finished_ == submitted_; });
    return std::unexpected(error_);
  }

  void Fail(uint64_t number, base::Error error) {
    if (number >= failed_number_) return;
    failed_number_ = number;
    error_ = std::move(error);
  }

  // Out of memory on a thread of ours ends the job, not the process.
  template <class Call>
  static base::Result<void> Guarded(Call&& call) {
    try {
      return call();
    } catch (const std::bad_alloc&) {
      return std::unexpected(base::Error{base::Code::kNoMemory, "out of memory"});
    }
  }

  void Loop(unsigned worker, const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    for (;;) {
      ready_.wait(lock, stop, [this] { return taken_ < submitted_; });
      if (stop.stop_requested()) return;
      RunOne(worker, taken_++, lock);
    }
  }

  // Called and left with the lock held; work and finish run without it.
  void RunOne(unsigned worker, uint64_t number, std::unique_lock<std::mutex>& lock) {
    if (number < failed_number_) {
      lock.unlock();
      auto result = Guarded([&] { return work_(worker, slot(number)); });
      lock.lock();
      if (!result) Fail(number, std::move(result).error());
    }
    done(number) = 1;
    if (finishing_) return;  // Its thread will see this job, too.
    finishing_ = true;
    while (finished_ < submitted_ && done(finished_) != 0) {
      if (finished_ < failed_number_) {
        lock.unlock();
        auto result = Guarded([&] { return finish_(slot(finished_)); });
        lock.lock();
        if (!result) Fail(finished_, std::move(result).error());
      }
      done(finished_) = 0;
      ++finished_;
      free_.notify_all();
    }
    finishing_ = false;
  }

  const Work work_;
  const Finish finish_;
  std::vector<Job> slots_;
  std::vector<char> done_;  // By slot: worked on, not yet finished.
  std::mutex mutex_;
  std::condition_variable_any ready_;
  std::condition_variable_any free_;
  // finished_ <= taken_ <= submitted_ <= finished_ + slots. Only the thread that set finishing_ moves
  // finished_.
  uint64_t submitted_ = 0;
  uint64_t taken_ = 0;
  uint64_t finished_ = 0;
  bool finishing_ = false;
  uint64_t failed_number_ = std::numeric_limits<uint64_t>::max();
  base::Error error_{base::Code::kInvalid, ""};
  std::vector<std::jthread> threads_;  // Last: they stop before anything else goes.
};

}  // namespace image
