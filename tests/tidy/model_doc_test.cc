// docs/model.md says of the switches and presets what the program has.
#include <gtest/gtest.h>

#include <set>

// The table itself: this program links nothing of mm/.
#include "mm/semantics.cc"
#include "tests/tidy/tree.h"

namespace tidy {
namespace {

std::string Doc() { return ReadSource("docs/model.md").text; }

// The `name=value` words of the paragraph of `doc` that begins with "- `preset`:".
std::set<std::string> PresetInDoc(const std::string& doc, const std::string& preset) {
  const size_t start = doc.find("\n- `" + preset + "`:");
  if (start == std::string::npos) return {"no paragraph"};
  const size_t end = std::min(doc.find("\n- ", start + 1), doc.find("\n\n", start));
  std::set<std::string> words;
  for (size_t at = doc.find('`', start); at < end; at = doc.find('`', at)) {
    const size_t close = doc.find('`', at + 1);
    const std::string word = doc.substr(at + 1, close - at - 1);
    if (word.find('=') != std::string::npos) words.insert(word);
    at = close + 1;
  }
  return words;
}

TEST(ModelDocument, HasEverySwitchAndItsValues) {
  const std::string doc = Doc();
  for (const mm::Switch& row : mm::Switches()) {
    std::string text = "| `" + std::string(row.name) + "` | ";
    for (const std::string_view value : row.values) {
      text += (value == row.values.front() ? "" : ", ") + std::string(value);
    }
    EXPECT_NE(doc.find(text + " |"), std::string::npos) << text;
    EXPECT_NE(doc.find("\n- `" + std::string(row.name) + "`: "), std::string::npos) << row.name;
  }
}

TEST(ModelDocument, HasEveryPreset) {
  const std::string doc = Doc();
  for (const std::string_view name : mm::GenerationNames()) {
    const std::vector<std::string> changed = mm::ChangedSwitches(mm::Generation(name).value());
    EXPECT_EQ(PresetInDoc(doc, std::string(name)), std::set<std::string>(changed.begin(), changed.end()))
        << name;
  }
}

TEST(ModelDocument, AWrongPresetIsFound) {
  const std::string doc = "\n- `a`: `x=1`,\n  `y=2`\n- `b`: `x=3`\n\nMore `z=4`.\n";
  EXPECT_EQ(PresetInDoc(doc, "a"), (std::set<std::string>{"x=1", "y=2"}));
  EXPECT_EQ(PresetInDoc(doc, "b"), (std::set<std::string>{"x=3"}));
  EXPECT_EQ(PresetInDoc(doc, "c"), (std::set<std::string>{"no paragraph"}));
}

}  // namespace
}  // namespace tidy
