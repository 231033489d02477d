#include "cli/print.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "base/units.h"
#include "cli/command.h"
#include "mm/page_states.h"
#include "proto/file.h"

namespace cli {
namespace {

volatile std::sig_atomic_t g_signal = 0;

constexpr size_t kLineMax = 8192;  // of an error: names in it were cut before

// A second signal changes nothing: what is under way is being undone.
void OnSignal(int signal) {
  if (g_signal == 0) g_signal = signal;
  g_stop.store(true);
}

// A progress line stands on the terminal: it goes before anything else is printed.
bool g_progress_shown = false;

std::FILE* g_results = stdout;

void ClearProgress() {
  if (!g_progress_shown) return;
  std::fprintf(stderr, "\r\033[K");
  g_progress_shown = false;
}

std::string Number(uint64_t value) { return std::to_string(value); }

}  // namespace

std::atomic<bool> g_stop = false;

void CatchSignals() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction old = {};
    sigaction(signal, nullptr, &old);
    if (old.sa_handler != SIG_IGN) sigaction(signal, &action, nullptr);  // nohup, background jobs
  }
  // Writing into a closed pipe and past a file size limit are errors here, not ends of the program.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

void RaiseCaughtSignal() {
  if (g_signal == 0) return;
  std::signal(g_signal, SIG_DFL);
  std::raise(g_signal);
}

int PrintError(const base::Error& error) {
  ClearProgress();
  std::fprintf(stderr, "ckpt: %s\n", base::Printable(error.what, kLineMax).c_str());
  return error.code == base::Code::kExpectation ? kExitNo : kExitTrouble;
}

void PrintNotice(const std::string& what) {
  ClearProgress();
  std::fprintf(stderr, "ckpt: notice: %s\n", base::Printable(what, kLineMax).c_str());
}

void PrintTo(std::FILE* results) { g_results = results; }

bool PrintText(const std::string& text) {
  ClearProgress();
  return std::fwrite(text.data(), 1, text.size(), g_results) == text.size();
}

base::Result<void> SaveText(const std::string& path, const std::string& text) {
  const auto file = TRY(image::OutputFile::Create(path));
  TRY_VOID(file->Append(text));
  return file->Publish(image::Sync::kNo);
}

bool PrintJson(const nlohmann::ordered_json& json) {
  return PrintText(json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

int Finish(int code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  // A reader that has seen enough (head, a pager) is not trouble.
  if (errno == EPIPE) return code;
  std::fprintf(stderr, "ckpt: write to standard output: %s\n", std::strerror(errno));
  return kExitTrouble;
}

std::string Count(uint64_t number, const std::string& noun, const std::string& plural) {
  return std::to_string(number) + " " + (number == 1 ? noun : plural.empty() ? noun + "s" : plural);
}

std::string Table(const std::vector<Row>& rows) {
  size_t name_width = 0;
  size_t value_width = 0;
  for (const Row& row : rows) {
    name_width = std::max(name_width, row.name.size());
    value_width = std::max(value_width, row.value.size());
  }
  std::string text;
  for (const Row& row : rows) {
    text += base::Format("%-*s  %*s", static_cast<int>(name_width), row.name.c_str(),
                         static_cast<int>(value_width), row.value.c_str());
    if (!row.note.empty()) text += "  " + row.note;
    text += "\n";
  }
  return text;
}

namespace {

// How many states the totals count: all of them, with a host underneath.
size_t States(const ckpt_pb::Totals& totals) {
  return std::min(static_cast<size_t>(totals.by_state_size()), mm::kPageStates);
}

// Of a guest: what its host saved, and what hinting let it leave out.
std::vector<Row> GuestRows(const ckpt_pb::Totals& totals) {
  constexpr const char* kNotes[] = {"stable, resident",
                                    "stable, on the host's paging store",
                                    "stable, not backed: reads as zero",
                                    "unused, resident: dropped",
                                    "unused, not backed",
                                    "volatile, resident: dropped",
                                    "volatile, discarded",
                                    "potentially volatile: dropped unless it was changed"};
  std::vector<Row> rows = {
      {"frames used", Number(totals.frames()), base::FormatSize(totals.frames() * base::kPageSize)}};
  static_assert(std::size(kNotes) == mm::kPageStates);
  for (size_t i = 0; i < States(totals); ++i) {
    rows.push_back({std::string("  ") + mm::PageStateName(mm::kAllPageStates[i]),
                    Number(totals.by_state(static_cast<int>(i))), kNotes[i]});
  }
  const double share = totals.frames() == 0 ? 0
                                            : 100.0 * static_cast<double>(totals.dropped()) /
                                                  static_cast<double>(totals.frames());
  rows.push_back({"dropped", Number(totals.dropped()),
                  base::Format("%s not written, %.1f%% of the guest's frames",
                               base::FormatSize(totals.dropped() * base::kPageSize).c_str(), share)});
  rows.push_back({"saved", Number(totals.modified()), "frames and swap slots that are not all zero"});
  return rows;
}

}  // namespace

namespace {

// What became of the pages that were to be saved. Rows of nothing are left out.
void AddImageRows(const ckpt_pb::Totals& totals, uint64_t image_bytes, std::vector<Row>& rows) {
  if (totals.zero_filled() > 0) rows.push_back({"  zero-filled", Number(totals.zero_filled()), "not stored"});
  if (totals.repeated() > 0)
    rows.push_back(
        {"  repeated", Number(totals.repeated()), "not stored again: pages with the same bytes are"});
  if (totals.in_parent() > 0)
    rows.push_back({"  in parent", Number(totals.in_parent()), "not stored: it has their bytes"});
  rows.push_back(
      {"pages in image", Number(totals.stored()), base::FormatSize(totals.stored() * base::kPageSize)});
  rows.push_back({"image size", Number(image_bytes), base::FormatSize(image_bytes)});
}

}  // namespace

std::vector<Row> TotalsRows(const ckpt_pb::Totals& totals, uint64_t image_bytes) {
  if (totals.frames() > 0) {
    std::vector<Row> rows = GuestRows(totals);
    rows.push_back({"pages of files", Number(totals.disk()), "on disk, other than their recipe makes them"});
    AddImageRows(totals, image_bytes, rows);
    return rows;
  }
  std::vector<Row> rows = {
      {"pages mapped", Number(totals.mapped()), base::FormatSize(totals.mapped() * base::kPageSize)},
      {"  present", Number(totals.present()), ""},
      {"  clean", Number(totals.clean()), "dropped: their files have them"},
      {"  zero", Number(totals.zero()), "dropped"},
      {"  modified", Number(totals.modified()), "saved"},
      {"  shared", Number(totals.shared()), "of these, saved once for several processes"},
      {"pages of files", Number(totals.disk()), "written, so that their recipe no longer makes them"},
  };
  AddImageRows(totals, image_bytes, rows);
  return rows;
}

nlohmann::ordered_json TotalsJson(const ckpt_pb::Totals& totals) {
  nlohmann::ordered_json json = {{"mapped", totals.mapped()},
                                 {"present", totals.present()},
                                 {"clean", totals.clean()},
                                 {"zero", totals.zero()},
                                 {"modified", totals.modified()},
                                 {"shared", totals.shared()},
                                 {"stored", totals.stored()},
                                 {"disk", totals.disk()},
                                 {"zero_filled", totals.zero_filled()},
                                 {"repeated", totals.repeated()},
                                 {"in_parent", totals.in_parent()}};
  if (totals.frames() == 0) return json;
  json["frames"] = totals.frames();
  json["dropped"] = totals.dropped();
  for (size_t i = 0; i < States(totals); ++i)
    json["by_state"][mm::PageStateName(mm::kAllPageStates[i])] = totals.by_state(static_cast<int>(i));
  return json;
}

Progress::Progress(std::string what, uint64_t total)
    : what_(std::move(what)),
      total_(total),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

Progress::~Progress() { ClearProgress(); }

void Progress::Update(uint64_t done) {
  using std::chrono::milliseconds;
  const auto now = std::chrono::steady_clock::now();
  if (!terminal_ || now - start_ < milliseconds(1000) || now - last_ < milliseconds(200)) return;
  last_ = now;
  g_progress_shown = true;
  if (total_ > 0) {
    constexpr uint64_t kWidth = 30;
    const uint64_t full = std::min(done, total_) * kWidth / total_;
    std::fprintf(stderr, "\r%s [%s%s] %llu%%\033[K", what_.c_str(), std::string(full, '#').c_str(),
                 std::string(kWidth - full, '.').c_str(),
                 static_cast<unsigned long long>(std::min(done, total_) * 100 / total_));
  } else {
    std::fprintf(stderr, "\r%s %llu pages\033[K", what_.c_str(), static_cast<unsigned long long>(done));
  }
  std::fflush(stderr);
}

}  // namespace cli
