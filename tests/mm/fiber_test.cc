#include "mm/fiber.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace mm {
namespace {

TEST(Fiber, RunsUntilItSuspendsAndGoesOnThere) {
  std::string said;
  Fiber* self = nullptr;
  Fiber fiber([&] {
    for (const char letter : {'a', 'b', 'c'}) {
      said += letter;
      self->Suspend();
    }
  });
  self = &fiber;
  EXPECT_EQ(said, "");
  fiber.Resume();
  said += '1';
  fiber.Resume();
  said += '2';
  fiber.Resume();
  EXPECT_EQ(said, "a1b2c");
  EXPECT_FALSE(fiber.ended());
  fiber.Resume();
  EXPECT_TRUE(fiber.ended());
}

TEST(Fiber, HasRoomForDeepCalls) {
  Fiber fiber([] {
    volatile char room[200 << 10];
    room[0] = 1;
    room[sizeof room - 1] = room[0];
    EXPECT_EQ(room[sizeof room - 1], 1);
  });
  fiber.Resume();
  EXPECT_TRUE(fiber.ended());
}

TEST(Fiber, OneThatIsGivenUpIsNotUnwound) {
  bool destroyed = false;
  {
    struct Told {
      bool* destroyed;
      ~Told() { *destroyed = true; }
    };
    Fiber* self = nullptr;
    Fiber fiber([&destroyed, &self] {
      const Told told{&destroyed};
      self->Suspend();
    });
    self = &fiber;
    fiber.Resume();
  }
  EXPECT_FALSE(destroyed);
}

TEST(FiberDeathTest, OneThatHasEndedIsNotResumed) {
  Fiber fiber([] {});
  fiber.Resume();
  EXPECT_DEATH(fiber.Resume(), "CHECK failed");
}

}  // namespace
}  // namespace mm
