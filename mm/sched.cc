#include "mm/sched.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/check.h"

namespace mm {
namespace {

// The place in the choices of running `cpu` itself; choices.size() if that is none of them.
size_t IndexOf(const Cpus& cpus, const Choice& choice) {
  return static_cast<size_t>(std::ranges::find(cpus.choices(), choice) - cpus.choices().begin());
}

// What tells two places apart, whatever line they are on: "lock page_table_lock (DoWpPage".
std::string_view WithoutLine(std::string_view place) { return place.substr(0, place.rfind(',')); }

}  // namespace

// ---- round robin ----

void RoundRobin::Begin(const Cpus&) { left_ = quantum_; }

size_t RoundRobin::Choose(Cpus& cpus) {
  const auto choices = cpus.choices();
  for (size_t i = 0; i < choices.size(); ++i) {
    if (choices[i].irq != Irq::kCount && choices[i].irq != Irq::kTimer) return i;
  }
  const unsigned from = cpus.last() == kNoCpu ? 0 : cpus.last() + (left_ == 0 ? 1u : 0u);
  for (unsigned step = 0; step < cpus.count(); ++step) {
    const size_t i = IndexOf(cpus, {static_cast<uint8_t>((from + step) % cpus.count())});
    if (i < choices.size()) return i;
  }
  return 0;
}

void RoundRobin::Passed(Cpus& cpus, unsigned cpu, const Op&) {
  if (left_ == 0 || cpu != cpus.last()) left_ = quantum_;
  --left_;
}

// ---- random ----

size_t RandomScheduler::Choose(Cpus& cpus) { return random_.Below(cpus.choices().size()); }

// ---- PCT ----

void PctScheduler::Begin(const Cpus& cpus) {
  priority_.clear();
  for (unsigned i = 0; i < cpus.count(); ++i) priority_.push_back(i + 1);
  for (size_t i = priority_.size(); i > 1; --i) std::swap(priority_[i - 1], priority_[random_.Below(i)]);
  changes_.clear();
  for (unsigned i = 1; i < depth_; ++i) changes_.push_back(random_.Below(std::max<uint64_t>(points_, 1)) + 1);
  lowest_ = 0;
}

size_t PctScheduler::Choose(Cpus& cpus) {
  const auto choices = cpus.choices();
  size_t best = 0;
  for (size_t i = 1; i < choices.size(); ++i) {
    if (priority_[choices[i].cpu] > priority_[choices[best].cpu]) best = i;
  }
  // An interrupt of that CPU, as likely as not.
  std::vector<size_t> same;
  for (size_t i = 0; i < choices.size(); ++i) {
    if (choices[i].cpu == choices[best].cpu) same.push_back(i);
  }
  return same[random_.Below(same.size())];
}

void PctScheduler::Passed(Cpus& cpus, unsigned cpu, const Op&) {
  if (std::ranges::find(changes_, cpus.points()) != changes_.end()) priority_[cpu] = --lowest_;
}

// ---- one place after the other ----

void StopBefore::Begin(const Cpus&) {
  CHECK(!places_.empty());
  at_ = 0;
  seen_ = 0;
  seen_at_ = kNever;
}

// Whether the CPU stands before the place, counted once for each point.
bool StopBefore::IsAt(const Cpus& cpus, const Place& place) {
  const Op& op = cpus.op(place.cpu);
  const bool here = cpus.points() != seen_at_ &&
                    PlaceOf(op).find("(" + place.function + ",") != std::string::npos &&
                    (place.name.empty() || place.name == op.name);
  if (!here) return false;
  seen_at_ = cpus.points();
  return ++seen_ == place.times;
}

size_t StopBefore::Choose(Cpus& cpus) {
  const auto choices = cpus.choices();
  const auto index_of = [&](unsigned cpu) { return IndexOf(cpus, {static_cast<uint8_t>(cpu)}); };
  for (; !stopped(); ++at_, seen_ = 0, seen_at_ = kNever) {
    const size_t next = index_of(places_[at_].cpu);
    if (next == choices.size()) return 0;  // it waits
    if (!IsAt(cpus, places_[at_])) return next;
  }
  // The one that ran before, or the lowest of the others.
  const size_t last = index_of(places_.back().cpu);
  size_t best = choices.size();
  for (size_t i = 0; i < choices.size(); ++i) {
    if (choices[i].irq != Irq::kCount || i == last) continue;
    if (best == choices.size() || choices[i].cpu == cpus.last()) best = i;
  }
  return best < choices.size() ? best : 0;
}

// ---- on paper ----

std::string FormatSchedule(unsigned cpus, const Trace& trace) {
  std::string text = base::Format("ckpt-schedule 1\ncpus %u\n", cpus);
  for (size_t i = 0; i < trace.size(); ++i) {
    const Stretch& stretch = trace[i];
    if (stretch.choice.irq != Irq::kCount) {
      text += base::Format("%u irq %s\n", stretch.choice.cpu, IrqName(stretch.choice.irq));
      if (stretch.points == 0) continue;
    }
    text += base::Format("%u %llu", stretch.choice.cpu, static_cast<unsigned long long>(stretch.points));
    if (stretch.before.kind != OpKind::kIdle) text += "  # before " + PlaceOf(stretch.before);
    text += '\n';
  }
  return text;
}

namespace {

std::string_view NextWord(std::string_view* line) {
  const size_t start = line->find_first_not_of(" \t");
  if (start == line->npos) return *line = {};
  line->remove_prefix(start);
  const std::string_view word = line->substr(0, line->find_first_of(" \t"));
  line->remove_prefix(word.size());
  return word;
}

template <class T>
bool ParseNumber(std::string_view word, T* number) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), *number);
  return error == std::errc{} && end == word.data() + word.size();
}

base::Result<Schedule::Line> ParseLine(std::string_view line, unsigned cpus, unsigned number) {
  const auto wrong = [&](const char* what) {
    return base::Fail(base::Code::kInvalid, "line %u: %s", number, what);
  };
  Schedule::Line parsed;
  constexpr std::string_view kBefore = "# before ";
  if (const size_t comment = line.find('#'); comment != line.npos) {
    if (line.substr(comment).starts_with(kBefore)) parsed.before = line.substr(comment + kBefore.size());
    line = line.substr(0, comment);
  }
  unsigned cpu = 0;
  if (!ParseNumber(NextWord(&line), &cpu) || cpu >= cpus) return wrong("it begins with the number of a CPU");
  parsed.choice.cpu = static_cast<uint8_t>(cpu);
  const std::string_view word = NextWord(&line);
  if (word == "irq") {
    const std::string_view name = NextWord(&line);
    for (size_t i = 0; i < static_cast<size_t>(Irq::kCount); ++i) {
      if (name == IrqName(static_cast<Irq>(i))) parsed.choice.irq = static_cast<Irq>(i);
    }
    if (parsed.choice.irq == Irq::kCount) return wrong("an interrupt is timer, ipi, end-of-io or host");
  } else if (!ParseNumber(word, &parsed.points) || parsed.points == 0) {
    return wrong("behind the CPU stands how many points it passes, or 'irq'");
  }
  if (!NextWord(&line).empty()) return wrong("it has words too many");
  return parsed;
}

}  // namespace

base::Result<Schedule> ParseSchedule(std::string_view text) {
  Schedule schedule;
  unsigned number = 0;
  int headers = 0;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    ++number;
    std::string_view rest = line.substr(0, line.find('#'));
    const std::string_view first = NextWord(&rest);
    if (first.empty()) continue;
    if (headers == 0) {
      if (first != "ckpt-schedule" || NextWord(&rest) != "1") {
        return base::Fail(base::Code::kInvalid, "line %u: a schedule begins with 'ckpt-schedule 1'", number);
      }
      ++headers;
    } else if (headers == 1) {
      if (first != "cpus" || !ParseNumber(NextWord(&rest), &schedule.cpus) || schedule.cpus < 1 ||
          schedule.cpus > NR_CPUS) {
        return base::Fail(base::Code::kInvalid, "line %u: expected 'cpus N', from 1 to %u", number, NR_CPUS);
      }
      ++headers;
    } else {
      schedule.lines.push_back(TRY(ParseLine(line, schedule.cpus, number)));
    }
  }
  if (headers < 2)
    return base::Fail(base::Code::kInvalid, "it is no schedule: 'ckpt-schedule 1' and 'cpus N' are missing");
  return schedule;
}

void Replay::SkipEmpty() {
  while (line_ < schedule_.lines.size() && schedule_.lines[line_].choice.irq == Irq::kCount && left_ == 0) {
    ended_ = &schedule_.lines[line_];
    if (++line_ < schedule_.lines.size()) left_ = schedule_.lines[line_].points;
  }
}

size_t Replay::Choose(Cpus& cpus) {
  const auto choices = cpus.choices();
  if (const Schedule::Line* ended = std::exchange(ended_, nullptr);
      ended != nullptr && !ended->before.empty()) {
    const std::string here = PlaceOf(cpus.op(ended->choice.cpu));
    if (WithoutLine(here) != WithoutLine(ended->before)) {
      cpus.Fail(
          Failure::Kind::kSchedule,
          base::Format("the schedule does not fit: after %llu points cpu %u is before %s, not before %s",
                       static_cast<unsigned long long>(cpus.points()), ended->choice.cpu, here.c_str(),
                       ended->before.c_str()));
    }
  }
  if (line_ < schedule_.lines.size()) {
    const Schedule::Line& line = schedule_.lines[line_];
    const size_t i = IndexOf(cpus, line.choice);
    if (i < choices.size()) return i;
    cpus.Fail(Failure::Kind::kSchedule,
              base::Format("the schedule does not fit: after %llu points cpu %u cannot go on%s\n",
                           static_cast<unsigned long long>(cpus.points()), line.choice.cpu,
                           line.choice.irq == Irq::kCount ? "" : " with that interrupt") +
                  cpus.Describe());
  }
  const size_t same = cpus.last() == kNoCpu ? choices.size() : IndexOf(cpus, {cpus.last()});
  return same < choices.size() ? same : 0;
}

void Replay::Passed(Cpus& cpus, unsigned cpu, const Op& op) {
  if (line_ >= schedule_.lines.size()) return;
  const Schedule::Line& line = schedule_.lines[line_];
  const bool irq = op.kind == OpKind::kInterrupt;
  if (line.choice.cpu != cpu || irq != (line.choice.irq != Irq::kCount)) {
    cpus.Fail(Failure::Kind::kSchedule,
              base::Format("the schedule does not fit: point %llu is of cpu %u, %s\n",
                           static_cast<unsigned long long>(cpus.points()), cpu, PlaceOf(op).c_str()) +
                  cpus.Describe());
  }
  if (irq) {
    if (++line_ < schedule_.lines.size()) left_ = schedule_.lines[line_].points;
    return;
  }
  --left_;
  SkipEmpty();
}

}  // namespace mm
