// The host underneath the model, as an adversary (page hinting).
#include "base/random.h"
#include "tests/property/world.h"

namespace property {

bool MoveHost(World& world, const Op& op) {
  mm::Machine& machine = *world.machine;
  if (machine.host == nullptr) return false;
  base::Random random(base::Mix64(op.words[0] ^ uint64_t{op.words[23]} << 32));
  bool moved = false;
  switch (random.Below(8)) {
    case 0:
    case 1: return machine.host->take_any(1 + random.Below(16)) > 0;
    case 2:
      for (uint32_t i = 1; i < machine.frames.high_water(); ++i) {
        if (machine.host->take(mm::Pfn{i})) moved = true;
      }
      return moved;
    case 3:
    case 4:
      for (int i = 0; i < 8; ++i) {
        const auto any = static_cast<uint32_t>(random.Below(machine.frames.high_water()));
        if (machine.host->take(mm::Pfn{any})) moved = true;
      }
      return moved;
    case 5: machine.discarded->idle(); return true;
    default: return false;
  }
}

const std::byte* ContentOf(const World& world, mm::Pfn pfn) {
  static mm::PageBytes bytes;
  CHECK(mm::read_page_content(*world.machine, pfn, bytes));
  return bytes.data();
}

}  // namespace property
