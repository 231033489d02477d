// HintedWorld: a World with a host underneath (page hinting).
#pragma once

#include <initializer_list>

#include "mm/host.h"
#include "mm/page_states.h"
#include "tests/mm/world.h"

namespace mm {

inline void PrintTo(PageState state, std::ostream* out) { *out << PageStateName(state); }

// The defaults with hints, on hardware with a dirty bit for each page; and `switches` set ("name=value").
inline Semantics Hinted(std::initializer_list<std::string_view> switches = {}) {
  Semantics semantics = WithSwitch("hints=writable");
  EXPECT_TRUE(SetSwitch(semantics, "dirty_bits=page"));
  for (const std::string_view assignment : switches)
    EXPECT_TRUE(SetSwitch(semantics, assignment)) << assignment;
  return semantics;
}

class HintedWorld : public World {
 public:
  explicit HintedWorld(const Semantics& semantics = Hinted(), uint64_t memory_pages = 4096,
                       uint64_t swap_pages = 0)
      : World(semantics, memory_pages, swap_pages) {}

  Host& host() { return *machine().host; }
  DiscardedPages& discarded() { return *machine().discarded; }
  Frames& frames() { return machine().frames; }
  Page& page(Pfn pfn) { return frames().at(pfn); }
  PageState state(Pfn pfn) { return host().state(pfn); }

  // The cached page of a file; kNoPfn: there is none. No lookup of the machine's: nothing changes.
  static Pfn Cached(const FilePtr& file, Pgoff index) {
    const auto found = file->mapping.pages.find(index);
    return found == file->mapping.pages.end() ? kNoPfn : found->second;
  }
  // Reads the page by a call: it is cached, and nobody else's (volatile, if nothing forbids it).
  Pfn ReadIn(const FilePtr& file, Pgoff index) {
    (void)ReadFile(file, index * kPage, 1);
    return Cached(file, index);
  }
  // The host takes this very frame, by the move that its state allows. false: by none.
  bool Take(Pfn pfn, Where at = Where::current()) {
    const bool taken = host().take(pfn);
    Check(at);
    return taken;
  }
};

}  // namespace mm
