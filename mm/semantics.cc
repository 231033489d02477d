#include "mm/semantics.h"

#include <array>
#include <cstring>

namespace mm {
namespace {

constexpr std::string_view kAnonReadFaults[] = {"zero_page", "counted_zero_page", "new_page"};
constexpr std::string_view kTruncatePasses[] = {"two", "one"};
constexpr std::string_view kTruncateRaces[] = {"page_lock", "truncate_count"};
constexpr std::string_view kNoYes[] = {"no", "yes"};
constexpr std::string_view kHolePunchCow[] = {"kept", "zapped"};
constexpr std::string_view kReuseRules[] = {"mapcount", "count", "mapcount_keep_slot"};
constexpr std::string_view kCowRmapOrders[] = {"after_pte", "before_pte"};
constexpr std::string_view kPopulateNonblock[] = {"noop", "file_pte"};
constexpr std::string_view kLinearFilePtes[] = {"bad_pte", "populate"};
constexpr std::string_view kDirtyRules[] = {"anonymous", "page_mapping"};
constexpr std::string_view kWpContended[] = {"wait", "copy"};
constexpr std::string_view kRemapPopulate[] = {"fault", "install"};
constexpr std::string_view kConvertEnomem[] = {"rolled_back", "as_posted"};
constexpr std::string_view kSwapDumps[] = {"read_slot", "swap_in"};
constexpr std::string_view kDumpLookups[] = {"dump_dirty", "dump_only", "foll_anon"};

constexpr std::string_view kHints[] = {"off", "base", "writable"};
constexpr std::string_view kDirtyBits[] = {"pte", "page"};
constexpr std::string_view kDiscardAddresses[] = {"absolute", "virtual"};
constexpr std::string_view kDiscardNonlinear[] = {"file_pte", "none"};
constexpr std::string_view kDiscardFree[] = {"sign_off", "ipi_lists", "pagevec"};
constexpr std::string_view kSignoffHooks[] = {"tick", "mode_change"};
constexpr std::string_view kSignoffDeadCpus[] = {"removed", "stays"};
constexpr std::string_view kMinorFaultStates[] = {"none", "transitions"};
constexpr std::string_view kReleaseAttempts[] = {"before", "after"};
constexpr std::string_view kRefusedAllowed[] = {"refused", "allowed"};
constexpr std::string_view kVolatileSwapcache[] = {"anon", "any", "none"};
constexpr std::string_view kMlockDiscards[] = {"unmapped", "refused"};
constexpr std::string_view kLockedDiscardRefs[] = {"taken", "as_posted"};
constexpr std::string_view kReuseDiscarded[] = {"stable_first", "as_posted"};
constexpr std::string_view kRemovalFlags[] = {"discarded", "transient"};

constexpr Switch kSwitches[] = {
    {"anon_read_fault", offsetof(Semantics, anon_read_fault), kAnonReadFaults,
     "2.6.34 mm/memory.c; 2.6.18; 2.6.24", "M17 C02", "DoAnonymousPage"},
    {"truncate_passes", offsetof(Semantics, truncate_passes), kTruncatePasses, "2.6.24 mm/memory.c; 2.6.18",
     "M05", "vmtruncate"},
    {"truncate_race", offsetof(Semantics, truncate_race), kTruncateRaces, "2.6.32 mm/filemap.c; 2.6.18",
     "M06", "DoFault"},
    {"cow_survives_truncate", offsetof(Semantics, cow_survives_truncate), kNoYes, "2.6.34; seed 004's claim",
     "C09 C10 C11", "vmtruncate"},
    {"hole_punch_cow", offsetof(Semantics, hole_punch_cow), kHolePunchCow, "today; 2.6.34 vmtruncate_range",
     "hole punch over COWed pages", "punch_hole"},
    {"reuse_rule", offsetof(Semantics, reuse_rule), kReuseRules, "2.6.32 mm/swapfile.c; 2.6.11; 2.6.18",
     "M19 M20", "reuse_swap_page"},
    {"cow_rmap_order", offsetof(Semantics, cow_rmap_order), kCowRmapOrders, "2.6.32 mm/memory.c; 2.6.18",
     "M27", "CowBreak"},
    {"populate_nonblock", offsetof(Semantics, populate_nonblock), kPopulateNonblock,
     "2.6.34 mm/fremap.c; 2.6.11 mm/filemap.c", "M16", "populate_range"},
    {"linear_file_pte", offsetof(Semantics, linear_file_pte), kLinearFilePtes, "2.6.18 mm/memory.c; 2.6.11",
     "M14", "DoFilePage"},
    {"dirty_rule", offsetof(Semantics, dirty_rule), kDirtyRules, "corrected; seed 004 as posted", "C07",
     "IsModified"},
    {"dump_lookup", offsetof(Semantics, dump_lookup), kDumpLookups, "seed 004; 2.6.32; before", "C08",
     "get_dirty_page"},
    {"wp_contended", offsetof(Semantics, wp_contended), kWpContended, "2.6.32 mm/memory.c; 2.6.18", "M18",
     "LockForReuse"},
    {"remap_populate", offsetof(Semantics, remap_populate), kRemapPopulate,
     "2.6.32 mm/fremap.c; 2.6.18 filemap_populate", "M12 M16", "sys_remap_file_pages"},
    {"convert_enomem", offsetof(Semantics, convert_enomem), kConvertEnomem, "corrected; seed 003 as posted",
     "O12", "page_convert_anon"},
    {"swap_dump", offsetof(Semantics, swap_dump), kSwapDumps, "corrected; seed 004", "C06 C07 C14",
     "dump_reads_slots"},
    {"hints", offsetof(Semantics, hints), kHints, "seed 000; GPH09-1", "G16 G75", "hints_writable"},
    {"dirty_bits", offsetof(Semantics, dirty_bits), kDirtyBits, "seed 000; GPH09-6", "G75 G84 G85",
     "page_set_volatile"},
    {"discard_address", offsetof(Semantics, discard_address), kDiscardAddresses, "seed 002; HVA05-1", "G64",
     "do_discard_fault"},
    {"discard_nonlinear", offsetof(Semantics, discard_nonlinear), kDiscardNonlinear, "GPH09-1; HVA05-1",
     "G41", "UnmapAllChain"},
    {"discard_free", offsetof(Semantics, discard_free), kDiscardFree, "GPH07-6; GPH06-8; seed 002",
     "G61 G66 G67 G68", "shrink"},
    {"signoff_hook", offsetof(Semantics, signoff_hook), kSignoffHooks, "GPH07-6; GPH09-6", "G69b", "tick"},
    {"signoff_dead_cpu", offsetof(Semantics, signoff_dead_cpu), kSignoffDeadCpus, "corrected; GPH09-6", "G69",
     "cpu_dead"},
    {"minor_fault_states", offsetof(Semantics, minor_fault_states), kMinorFaultStates, "GPH09-5; GPH09-1",
     "G91 G93", "fault_lookup"},
    {"release_attempt", offsetof(Semantics, release_attempt), kReleaseAttempts, "GPH09-1; HVA05-1", "G24 G25",
     "page_cache_release_slow"},
    {"volatile_off_lru", offsetof(Semantics, volatile_off_lru), kRefusedAllowed, "GPH09-1; HVA05-1", "G20",
     "check_bits"},
    {"volatile_swapcache", offsetof(Semantics, volatile_swapcache), kVolatileSwapcache,
     "GPH09-2; GPH06-4; HVA05-1", "G20 G98", "check_bits"},
    {"mlocked_swapcache", offsetof(Semantics, mlocked_swapcache), kRefusedAllowed, "corrected; GPH07-3",
     "G89", "check_bits"},
    {"mlock_discard", offsetof(Semantics, mlock_discard), kMlockDiscards, "seed 001; GPH09-3", "G87",
     "UnmapAllOne"},
    {"locked_discard_ref", offsetof(Semantics, locked_discard_ref), kLockedDiscardRefs, "corrected; GPH07-3",
     "G90", "follow_page"},
    {"reuse_discarded", offsetof(Semantics, reuse_discarded), kReuseDiscarded, "corrected; GPH09-2", "G97",
     "reuse_swap_page"},
    {"removal_flag", offsetof(Semantics, removal_flag), kRemovalFlags, "corrected; GPH09-1", "G50",
     "page_begin_removal"},
};

uint8_t Read(const Semantics& semantics, const Switch& row) {
  return reinterpret_cast<const uint8_t*>(&semantics)[row.offset];
}

std::string Join(std::span<const std::string_view> words) {
  std::string text;
  for (const std::string_view word : words) {
    if (!text.empty()) text += ", ";
    text += word;
  }
  return text;
}

constexpr std::string_view kGenerations[] = {"k34",     "k32",     "k24",     "k18",    "k11",
                                             "hva2005", "gph2006", "gph2007", "gph2009"};

// The postings of page hinting: what they do differently, but for what loses data (those switches are set one
// by one).
bool HintingGeneration(std::string_view name, Semantics* s) {
  s->hints = Hints::kWritable;
  s->dirty_bits = DirtyBits::kPage;
  if (name == "gph2009") {
    s->signoff_hook = SignoffHook::kModeChange;
    return true;
  }
  s->minor_fault_states = MinorFaultStates::kTransitions;
  if (name == "gph2007") return true;
  s->discard_free = DiscardFree::kIpiLists;
  s->volatile_swapcache = VolatileSwapcache::kAny;
  if (name == "gph2006") return true;
  s->discard_free = DiscardFree::kPagevec;
  s->volatile_swapcache = VolatileSwapcache::kNone;
  s->volatile_off_lru = VolatileOffLru::kAllowed;
  s->release_attempt = ReleaseAttempt::kAfter;
  return name == "hva2005";
}

}  // namespace

static_assert(sizeof(Semantics) == std::size(kSwitches), "every switch has one row in the table");

std::span<const Switch> Switches() { return kSwitches; }
std::span<const std::string_view> GenerationNames() { return kGenerations; }

base::Result<void> SetSwitch(Semantics& semantics, std::string_view assignment) {
  const size_t equals = assignment.find('=');
  const std::string_view name = assignment.substr(0, equals);
  const std::string_view value = equals == std::string_view::npos ? "" : assignment.substr(equals + 1);
  for (const Switch& row : kSwitches) {
    if (row.name != name) continue;
    for (size_t i = 0; i < row.values.size(); ++i) {
      if (row.values[i] != value) continue;
      reinterpret_cast<uint8_t*>(&semantics)[row.offset] = static_cast<uint8_t>(i);
      if (semantics.hints == Hints::kBase) semantics.dirty_bits = DirtyBits::kPage;
      return {};
    }
    const std::string what =
        value.empty() ? "needs a value" : "has no value '" + base::Printable(value) + "'";
    return base::Fail(base::Code::kInvalid, "switch '%s' %s: it takes one of %s", std::string(name).c_str(),
                      what.c_str(), Join(row.values).c_str());
  }
  std::vector<std::string_view> names;
  for (const Switch& row : kSwitches) names.push_back(row.name);
  const std::string what =
      name.empty() ? "the switch has no name" : "there is no switch '" + base::Printable(name) + "'";
  return base::Fail(base::Code::kInvalid, "%s: the switches are %s", what.c_str(), Join(names).c_str());
}

std::vector<std::string> ChangedSwitches(const Semantics& semantics) {
  std::vector<std::string> changed;
  for (const Switch& row : kSwitches) {
    const uint8_t value = Read(semantics, row);
    if (value != 0) changed.push_back(std::string(row.name) + "=" + std::string(row.values[value]));
  }
  return changed;
}

base::Result<Semantics> Generation(std::string_view name) {
  if (Semantics hinting; HintingGeneration(name, &hinting)) return hinting;
  Semantics s;
  s.hole_punch_cow = HolePunchCow::kZapped;
  if (name == "k34") return s;
  s.dump_lookup = DumpLookup::kDumpOnly;
  if (name == "k32") return s;
  s.dump_lookup = DumpLookup::kFollAnon;
  s.reuse_rule = ReuseRule::kMapcountKeepSlot;
  s.wp_contended = WpContended::kCopy;
  if (name == "k24") {
    s.anon_read_fault = AnonReadFault::kNewPage;
    return s;
  }
  s.anon_read_fault = AnonReadFault::kCountedZeroPage;
  s.truncate_passes = TruncatePasses::kOne;
  s.truncate_race = TruncateRace::kTruncateCount;
  s.cow_rmap_order = CowRmapOrder::kBeforePte;
  s.remap_populate = RemapPopulate::kInstall;
  if (name == "k18") return s;
  s.anon_read_fault = AnonReadFault::kZeroPage;
  s.reuse_rule = ReuseRule::kCount;
  s.populate_nonblock = PopulateNonblock::kFilePte;
  s.linear_file_pte = LinearFilePte::kPopulate;
  if (name == "k11") return s;
  return base::Fail(base::Code::kInvalid, "there is no generation '%s': the presets are %s",
                    base::Printable(name).c_str(), Join(kGenerations).c_str());
}

}  // namespace mm
