// Comparing what memory and files hold, with a short answer where they differ.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "base/error.h"

namespace mm {

inline testing::AssertionResult SameBytes(std::string_view got, std::string_view want) {
  if (got == want) return testing::AssertionSuccess();
  const size_t common = std::min(got.size(), want.size());
  const auto at =
      static_cast<size_t>(std::mismatch(got.begin(), got.begin() + common, want.begin()).first - got.begin());
  return testing::AssertionFailure() << got.size() << " bytes, expected " << want.size()
                                     << "; they differ at " << at << ": '"
                                     << base::Printable(got.substr(at), 16) << "', expected '"
                                     << base::Printable(want.substr(at), 16) << "'";
}

}  // namespace mm

#define EXPECT_BYTES(got, want) EXPECT_TRUE(::mm::SameBytes(got, want))
#define ASSERT_BYTES(got, want) ASSERT_TRUE(::mm::SameBytes(got, want))
