#include "proto/pipeline.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "base/random.h"

namespace {

using base::Code;
using base::Fail;
using base::Result;

struct Job {
  uint64_t number = 0;
  uint64_t answer = 0;
};

TEST(Pipeline, out_of_memory_on_a_thread_is_an_error_of_the_job) {
  for (const unsigned threads : {1, 3}) {
    for (const bool in_work : {true, false}) {
      const auto call = [](bool throws) -> Result<void> {
        if (throws) throw std::bad_alloc();
        return {};
      };
      image::Pipeline<Job> pipeline(
          threads, [&](unsigned, Job& job) { return call(in_work && job.number == 5); },
          [&](Job& job) { return call(!in_work && job.number == 5); });
      for (uint64_t i = 0; i < 10; ++i) {
        const auto next = pipeline.Next();
        if (!next) break;
        (*next)->number = i;
        pipeline.Submit();
      }
      const auto drained = pipeline.Drain();
      ASSERT_FALSE(drained);
      EXPECT_EQ(drained.error().code, Code::kNoMemory);
    }
  }
}

TEST(Pipeline, finishes_in_order) {
  for (const unsigned threads : {1u, 2u, 5u, image::kThreadsMax}) {
    std::vector<uint64_t> finished;
    image::Pipeline<Job> pipeline(
        threads,
        [](unsigned, Job& job) -> Result<void> {
          job.answer = base::Mix64(job.number);
          for (uint64_t i = 0; i < job.answer % 3000; ++i) job.answer = job.answer + 0;
          return {};
        },
        [&](Job& job) -> Result<void> {
          EXPECT_EQ(job.answer, base::Mix64(job.number));
          finished.push_back(job.number);
          return {};
        });
    for (uint64_t i = 0; i < 5000; ++i) {
      (*pipeline.Next())->number = i;
      pipeline.Submit();
    }
    ASSERT_TRUE(pipeline.Drain());
    ASSERT_EQ(finished.size(), 5000u);
    for (uint64_t i = 0; i < 5000; ++i) ASSERT_EQ(finished[i], i);
  }
}

TEST(Pipeline, the_first_error_wins_and_ends_it) {
  for (const unsigned threads : {1u, 2u, 4u, image::kThreadsMax}) {
    for (const uint64_t bad_finish : {10, 31, 1000}) {
      std::vector<uint64_t> finished;
      image::Pipeline<Job> pipeline(
          threads,
          [](unsigned, Job& job) -> Result<void> {
            if (job.number >= 30) return Fail(Code::kIo, "work %d", static_cast<int>(job.number));
            return {};
          },
          [&](Job& job) -> Result<void> {
            if (job.number == bad_finish) return Fail(Code::kIo, "finish %d", static_cast<int>(job.number));
            finished.push_back(job.number);
            return {};
          });
      std::string error;
      for (uint64_t i = 0; i < 200; ++i) {
        const auto job = pipeline.Next();
        if (!job) {
          error = job.error().what;
          break;
        }
        (*job)->number = i;
        pipeline.Submit();
      }
      EXPECT_EQ(error, bad_finish == 10 ? "finish 10" : "work 30");
      EXPECT_EQ(pipeline.Drain().error().what, error);
      EXPECT_EQ(finished.size(), bad_finish == 10 ? 10u : 30u);
    }
  }
}

TEST(Pipeline, can_be_left_at_any_time) {
  for (uint64_t jobs = 0; jobs < 40; ++jobs) {
    std::atomic<uint64_t> worked = 0;
    {
      image::Pipeline<Job> pipeline(
          3,
          [&](unsigned, Job&) -> Result<void> {
            ++worked;
            return {};
          },
          [](Job&) { return Result<void>{}; });
      for (uint64_t i = 0; i < jobs; ++i) {
        ASSERT_TRUE(pipeline.Next());
        pipeline.Submit();
      }
    }
    EXPECT_LE(worked, jobs);
  }
}

TEST(Pipeline, threads_for) {
  EXPECT_GE(image::ThreadsFor(0), 1u);
  EXPECT_EQ(image::ThreadsFor(3), 3u);
  EXPECT_EQ(image::ThreadsFor(1000), image::kThreadsMax);
}

}  // namespace
