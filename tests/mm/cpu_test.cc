#include "mm/cpu.h"

#include <gtest/gtest.h>

#include <new>
#include <string>
#include <vector>

#include "base/check.h"
#include "mm/sched.h"
#include "mm/sync.h"

namespace mm {
namespace {

using testing::HasSubstr;

// Runs the jobs one point of each in turn.
std::optional<Failure> RunInTurn(std::vector<Cpus::Job> jobs) {
  Cpus cpus(static_cast<unsigned>(jobs.size()));
  cpus.set_points_max(1000);
  RoundRobin scheduler;
  return cpus.Run(jobs, scheduler);
}

std::string FailureOf(std::vector<Cpus::Job> jobs, Failure::Kind kind) {
  const std::optional<Failure> failure = RunInTurn(std::move(jobs));
  if (!failure) return "no failure";
  EXPECT_EQ(failure->kind, kind) << failure->what;
  return failure->what;
}

TEST(Cpus, TakeTurnsAtPointsAndNowhereElse) {
  std::string said;
  int shared = 0;
  const auto speak = [&](char letter) {
    for (int i = 0; i < 3; ++i) {
      said += letter;
      said += letter;
      racy_change(&shared, "shared");
    }
  };
  EXPECT_FALSE(RunInTurn({[&] { speak('a'); }, [&] { speak('b'); }}));
  EXPECT_EQ(said, "aabbaabbaabb");
}

TEST(Cpus, KnowWhoTheyAreAndOutsideThereIsOne) {
  EXPECT_FALSE(smp());
  EXPECT_EQ(smp_processor_id(), 0u);
  std::vector<unsigned> seen(3);
  const auto job = [&] {
    EXPECT_TRUE(smp());
    seen[smp_processor_id()] = smp_processor_id() + 1;
  };
  EXPECT_FALSE(RunInTurn({job, job, job}));
  EXPECT_EQ(seen, (std::vector<unsigned>{1, 2, 3}));
  EXPECT_FALSE(smp());
}

TEST(Cpus, RunAgainAfterARun) {
  Cpus cpus(2);
  RoundRobin scheduler;
  int runs = 0;
  const std::vector<Cpus::Job> jobs = {[&] { ++runs; }, nullptr};
  EXPECT_FALSE(cpus.Run(jobs, scheduler));
  EXPECT_FALSE(cpus.Run(jobs, scheduler));
  EXPECT_EQ(runs, 2);
}

TEST(Cpus, ATraceThatIsTooLongIsKnownToBeThat) {
  Cpus cpus(2);
  RoundRobin scheduler;
  int shared = 0;
  uint64_t changes = Cpus::kTraceMax / 2 - 1;  // of each CPU; its beginning is a point too
  const auto job = [&] {
    for (uint64_t i = 0; i < changes; ++i) racy_change(&shared, "shared");
  };
  const std::vector<Cpus::Job> jobs(2, job);
  ASSERT_FALSE(cpus.Run(jobs, scheduler));
  EXPECT_TRUE(cpus.trace_complete());
  EXPECT_EQ(cpus.trace().size(), Cpus::kTraceMax);
  EXPECT_EQ(cpus.trace().back().points, 1u);

  changes = 1;
  ASSERT_FALSE(cpus.Run(jobs, scheduler));
  EXPECT_FALSE(cpus.trace_complete());
  EXPECT_EQ(cpus.trace().size(), Cpus::kTraceMax);
  EXPECT_EQ(cpus.trace().back().points, 1u);
  EXPECT_EQ(cpus.trace().back().before.kind, OpKind::kBegin);

  cpus.ClearTrace();
  ASSERT_FALSE(cpus.Run(jobs, scheduler));
  EXPECT_TRUE(cpus.trace_complete());
  EXPECT_EQ(cpus.trace().size(), 4u);
}

TEST(Cpus, ALockIsHeldByOneAtATime) {
  PageTableLock lock;
  int inside = 0;
  int most = 0;
  int shared = 0;
  const auto job = [&] {
    for (int i = 0; i < 5; ++i) {
      Guard guard(lock);
      most = std::max(most, ++inside);
      racy_change(&shared, "shared");
      --inside;
    }
  };
  EXPECT_FALSE(RunInTurn({job, job, job}));
  EXPECT_EQ(most, 1);
}

TEST(Cpus, ASemaphoreHasSeveralReadersOrOneWriter) {
  MmapSem sem;
  int readers = 0;
  int most = 0;
  bool writer = false;
  int shared = 0;
  const auto read = [&] {
    ReadGuard guard(sem);
    EXPECT_FALSE(writer);
    most = std::max(most, ++readers);
    racy_change(&shared, "shared");
    --readers;
  };
  const auto write = [&] {
    Guard guard(sem);
    writer = true;
    EXPECT_EQ(readers, 0);
    racy_change(&shared, "shared");
    writer = false;
  };
  EXPECT_FALSE(RunInTurn({read, read, write}));
  EXPECT_EQ(most, 2);
}

TEST(Cpus, ATrylockAnswersWhileAnotherHolds) {
  PageTableLock lock;
  int shared = 0;
  bool had = true;
  EXPECT_FALSE(RunInTurn({[&] {
                            Guard guard(lock);
                            for (int i = 0; i < 5; ++i) racy_change(&shared, "shared");
                          },
                          [&] {
                            racy_read(&shared, "shared");
                            had = lock.try_lock();
                          }}));
  EXPECT_FALSE(had);
}

// ---- what goes wrong ----

TEST(Cpus, ADeadlockSaysWhoHoldsWhat) {
  // The order of the classes is kept: two of one class.
  PageTableLock first;
  PageTableLock second;
  const auto both = [](PageTableLock& one, PageTableLock& other) {
    Guard guard(one);
    NestedGuard nested(other);
  };
  const std::string what =
      FailureOf({[&] { both(first, second); }, [&] { both(second, first); }}, Failure::Kind::kDeadlock);
  EXPECT_THAT(what, HasSubstr("deadlock: every CPU waits"));
  EXPECT_THAT(what, HasSubstr("cpu 0: waits: lock page_table_lock ("));
  EXPECT_THAT(what, HasSubstr("; holds page_table_lock ("));
  EXPECT_THAT(what, HasSubstr("mm/cpu_test.cc:"));
}

TEST(Cpus, AnInvertedLockOrderIsFoundWithoutADeadlock) {
  PageTableLock table;
  SharedSem sem;
  const std::string what = FailureOf({[&] {
                                       Guard inner(table);
                                       Guard outer(sem);
                                     }},
                                     Failure::Kind::kLockOrder);
  EXPECT_THAT(what, HasSubstr("takes i_shared_sem"));
  EXPECT_THAT(what, HasSubstr("holds page_table_lock"));
}

TEST(Cpus, TrylocksMayBeTakenInAnyOrder) {
  PageTableLock table;
  SharedSem sem;
  EXPECT_FALSE(RunInTurn({[&] {
    Guard inner(table);
    TryGuard outer(sem);
    EXPECT_TRUE(outer);
  }}));
}

TEST(Cpus, TwoLocksOfAClassNeedToBeNested) {
  PageTableLock parent;
  PageTableLock child;
  EXPECT_THAT(FailureOf({[&] {
                          Guard one(parent);
                          Guard two(child);
                        }},
                        Failure::Kind::kLockOrder),
              HasSubstr("page_table_lock"));
  PageTableLock others[2];
  EXPECT_FALSE(RunInTurn({[&] {
    Guard one(others[0]);
    NestedGuard two(others[1]);
  }}));
}

TEST(Cpus, ALockThatSomebodyElseReleasesIsFound) {
  PageTableLock lock;
  int shared = 0;
  const std::string what = FailureOf({[&] {
                                        lock.lock();
                                        racy_change(&shared, "shared");
                                        racy_change(&shared, "shared");
                                        lock.unlock();
                                      },
                                      [&] {
                                        racy_change(&shared, "shared");
                                        lock.unlock();
                                      }},
                                     Failure::Kind::kCheck);
  EXPECT_THAT(what, HasSubstr("releases page_table_lock, which it does not hold"));
}

TEST(Cpus, ASleepUnderASpinLockIsFound) {
  PageTableLock lock;
  EXPECT_THAT(FailureOf({[&] {
                          Guard guard(lock);
                          might_sleep();
                        }},
                        Failure::Kind::kCheck),
              HasSubstr("may sleep"));
}

TEST(Cpus, ASleepWithInterruptsOffIsFound) {
  MmapSem sem;
  EXPECT_THAT(FailureOf({[&] {
                          local_irq_disable();
                          Guard guard(sem);
                        }},
                        Failure::Kind::kCheck),
              HasSubstr("with interrupts off"));
}

TEST(Cpus, AJobThatEndsWithALockIsFound) {
  PageTableLock lock;
  EXPECT_THAT(FailureOf({[&] { lock.lock(); }}, Failure::Kind::kCheck), HasSubstr("holds page_table_lock"));
}

TEST(Cpus, ACheckInAJobEndsTheRunAndNotTheProcess) {
  EXPECT_THAT(FailureOf({[] { CHECK_MSG(false, "on purpose"); }}, Failure::Kind::kCheck),
              HasSubstr("on purpose"));
}

TEST(Cpus, TooLittleMemoryInAJobEndsTheRunAndNotTheProcess) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the address sanitizer ends the process itself";
#endif
  std::vector<char> much;
  int shared = 0;
  const auto grow = [&] {
    racy_change(&shared, "shared");
    much.reserve(size_t{1} << 60);
  };
  EXPECT_EQ(FailureOf({grow, nullptr}, Failure::Kind::kNoMemory), "out of memory");
  EXPECT_THROW(much.reserve(size_t{1} << 60), std::bad_alloc);
}

TEST(Cpus, APointUnderAnInnermostLockIsFoundUnlessItIsOneStepWithIt) {
  Lock<LockClass::kLruLock> lru;
  Lock<LockClass::kZoneLock> zone;
  PageTableLock table;
  int shared = 0;
  EXPECT_FALSE(RunInTurn({[&] {
    Guard guard(lru);
    racy_change(&shared, "shared");
    Guard inner(zone);
  }}));
  EXPECT_THAT(FailureOf({[&] {
                          Guard guard(lru);
                          TryGuard other(table);
                        }},
                        Failure::Kind::kCheck),
              HasSubstr("under lru_lock"));
}

TEST(Cpus, AnEndlessRunIsFound) {
  int shared = 0;
  EXPECT_THAT(FailureOf({[&] {
                          for (;;) racy_read(&shared, "shared");
                        }},
                        Failure::Kind::kEndless),
              HasSubstr("no end after 1000"));
}

TEST(Cpus, WhoRelaxesLetsTheOthersGoFirst) {
  int shared = 0;
  bool done = false;
  EXPECT_FALSE(RunInTurn({[&] {
                            while (!done) cpu_relax();
                          },
                          [&] {
                            racy_change(&shared, "shared");
                            done = true;
                          }}));
}

// ---- interrupts ----

TEST(Interrupts, RunWhereTheyAreEnabled) {
  std::string said;
  int shared = 0;
  EXPECT_FALSE(RunInTurn({[&] {
    local_irq_disable();
    t_cpus->Raise(0, Irq::kEndOfIo, [&] { said += 'i'; });
    racy_change(&shared, "shared");
    said += 'a';
    local_irq_enable();
    said += 'b';
  }}));
  EXPECT_EQ(said, "aib");
}

TEST(Interrupts, PendingOnesEndBeforeTheRunDoes) {
  int ended = 0;
  EXPECT_FALSE(RunInTurn({[&] {
    end_of_io([&] { ++ended; });
    end_of_io([&] { ++ended; });
  }}));
  EXPECT_EQ(ended, 2);
}

TEST(Interrupts, AnEndOfIoIsAtOnceWithOneCpu) {
  int ended = 0;
  end_of_io([&] { ++ended; });
  EXPECT_EQ(ended, 1);
}

TEST(Interrupts, AHandlerMustNotSleep) {
  MmapSem sem;
  EXPECT_THAT(FailureOf({[&] { end_of_io([&] { Guard guard(sem); }); }}, Failure::Kind::kCheck),
              HasSubstr("with interrupts off"));
}

TEST(Interrupts, ACallRunsOnEveryOtherCpuBeforeItReturns) {
  std::vector<unsigned> ran;
  int shared = 0;
  EXPECT_FALSE(RunInTurn({[&] {
                            smp_call_function([&] { ran.push_back(smp_processor_id()); }, true);
                            EXPECT_EQ(ran.size(), 2u);
                          },
                          [&] { racy_change(&shared, "shared"); }, nullptr}));
  EXPECT_THAT(ran, testing::UnorderedElementsAre(1u, 2u));
}

TEST(Interrupts, ACallToACpuThatWaitsForTheCallerWithInterruptsOffIsADeadlock) {
  PageTableLock lock;
  int shared = 0;
  EXPECT_THAT(FailureOf({[&] {
                           Guard guard(lock);
                           racy_change(&shared, "shared");
                           smp_call_function([] {}, true);
                         },
                         [&] {
                           local_irq_disable();
                           Guard guard(lock);
                         }},
                        Failure::Kind::kDeadlock),
              HasSubstr("wait ipi"));
}

TEST(Interrupts, TimerTicksComeSoOftenAndNoMore) {
  Cpus cpus(2);
  int ticks = 0;
  cpus.set_timer([&] { ++ticks; }, 3);
  int shared = 0;
  const auto job = [&] {
    for (int i = 0; i < 20; ++i) racy_change(&shared, "shared");
  };
  const std::vector<Cpus::Job> jobs = {job, job};
  RandomScheduler scheduler(1);
  EXPECT_FALSE(cpus.Run(jobs, scheduler));
  EXPECT_EQ(ticks, 6);
}

}  // namespace
}  // namespace mm
