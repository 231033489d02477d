// The house rules, one function each: a file (or all that a rule needs) in, what breaks the rule out.
// rules_test.cc runs each over the tree and over a small sample that breaks it.
#pragma once

#include <string>
#include <vector>

#include "tests/tidy/tree.h"

namespace tidy {

inline constexpr size_t kFileLinesMax = 600;
inline constexpr size_t kFunctionLinesMax = 70;

// Includes run along the arrows of docs/architecture.md, and no protobuf header reaches mm/.
Findings CheckIncludes(const Source& source);
// Only cli/ prints. base/check.cc may, because the program is about to abort.
Findings CheckPrinting(const Source& source);
// A header opens with words and has #pragma once.
Findings CheckHeader(const Source& source);
Findings CheckFileLength(const Source& source);
// By counting braces: see tree.h for what that cannot see.
Findings CheckFunctionLength(const Source& source);
// No notes to oneself are left behind.
Findings CheckNotes(const Source& source);
// A test that is switched off or skips itself says why, in a comment beside it or in what it prints.
Findings CheckSkips(const Source& source);

// Every source has tests: some test includes its header, or a test file has its name, or `elsewhere` says
// which test file covers it (source path, test path).
struct TestedBy {
  std::string source;
  std::string test;
};
Findings CheckTested(const std::vector<Source>& sources, const std::vector<Source>& tests,
                     const std::vector<TestedBy>& elsewhere);

// Every row of the table of mm::Semantics switches names a function of mm/ that reads the switch.
Findings CheckSwitchReaders(const Source& semantics, const std::vector<Source>& mm_sources);

// Every subcommand that cli/ registers has a page, and no page is of a subcommand that is not there.
// ckpt.1, ckpt-image.5 and ckpt-workload.5 are there too.
Findings CheckManPages(const std::vector<Source>& cli_sources, const std::vector<Source>& pages);
// A page refers to pages of ours that exist.
Findings CheckManReferences(const std::vector<Source>& pages);
// What mandoc's lint has to say of a page on disk, warnings and style too, but for references to manual
// pages of others that this machine does not have.
Findings CheckManLint(const std::string& path);

// docs/scenarios.md: exactly the ids of `ids`, a row each; the folders of tests/ that a row names, and no
// others, have a test with that id in its name; a row without tests says what it waits for.
Findings CheckScenarios(const Source& doc, const std::vector<std::string>& ids,
                        const std::vector<Source>& tests);
// The ids of all scenarios.
std::vector<std::string> ScenarioIds();
// Whether the name of a test carries an id: "M03_shrink" and "Truncate_M03" do for M03, "M030" and "G69b_x"
// (for G69) do not.
bool NameHasId(const std::string& name, const std::string& id);

// docs/architecture.md has a row for every folder in `folders`.
Findings CheckRoomsDocumented(const Source& doc, const std::vector<std::string>& folders);

}  // namespace tidy
