// Pte chains against a plain list, and where their nodes come from.
#include "mm/pte_chain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace mm {
namespace {

// Entries are only compared, never followed.
MmStruct* FakeMm(uint64_t number) { return reinterpret_cast<MmStruct*>(number * 64); }

std::vector<PteAddr> Entries(const Page& page) {
  const PteList entries = pte_chain_entries(page);
  return {entries.begin(), entries.end()};
}

bool SameEntries(std::vector<PteAddr> got, std::vector<PteAddr> want) {
  const auto less = [](const PteAddr& a, const PteAddr& b) {
    return std::pair(a.mm, a.addr) < std::pair(b.mm, b.addr);
  };
  std::ranges::sort(got, less);
  std::ranges::sort(want, less);
  return got == want;
}

TEST(PteChain, OnePteIsDirect) {
  PteChains chains;
  Page page{};
  EXPECT_TRUE(pte_chain_empty(page));
  EXPECT_FALSE(pte_chain_remove(chains, page, {FakeMm(1), 0x1000}));
  pte_chain_add(chains, page, {FakeMm(1), 0x1000});
  EXPECT_NE(page.flags & PG_direct, 0u);
  EXPECT_EQ(pte_direct(page), (PteAddr{FakeMm(1), 0x1000}));
  EXPECT_EQ(chains.in_use(), 0u) << "without a node";
  pte_chain_add(chains, page, {FakeMm(2), 0x1000});
  EXPECT_EQ(page.flags & PG_direct, 0u);
  EXPECT_EQ(chains.in_use(), 1u);
  EXPECT_EQ(Entries(page).size(), 2u);
  EXPECT_FALSE(pte_chain_remove(chains, page, {FakeMm(1), 0x2000})) << "another address";
  EXPECT_FALSE(pte_chain_remove(chains, page, {FakeMm(3), 0x1000})) << "another address space";
  EXPECT_TRUE(pte_chain_remove(chains, page, {FakeMm(1), 0x1000}));
  EXPECT_EQ(Entries(page), (std::vector<PteAddr>{{FakeMm(2), 0x1000}}));
  EXPECT_TRUE(pte_chain_remove(chains, page, {FakeMm(2), 0x1000}));
  EXPECT_TRUE(pte_chain_empty(page));
  EXPECT_EQ(page.flags & PG_direct, 0u);
  EXPECT_EQ(chains.in_use(), 0u);
}

TEST(PteChain, RandomAgainstAList) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    PteChains chains;
    Page pages[3] = {};
    std::vector<PteAddr> want[3];
    // Growing for a while, then shrinking, and again.
    for (int step = 0; step < 3000; ++step) {
      const size_t which = random() % 3;
      std::vector<PteAddr>& list = want[which];
      const bool grow = random() % 10 < (step / 500 % 2 == 0 ? 7u : 3u);
      if (grow || list.empty()) {
        const PteAddr entry{FakeMm(1 + random() % 4), (1 + random() % 1000) * 0x1000};
        if (std::ranges::find(list, entry) != list.end()) continue;
        PteChain* spare = random() % 2 == 0 ? chains.TryAlloc() : nullptr;
        pte_chain_add(chains, pages[which], entry, &spare);
        if (spare != nullptr) chains.Free(spare);
        list.push_back(entry);
      } else {
        const size_t victim = random() % list.size();
        EXPECT_TRUE(pte_chain_remove(chains, pages[which], list[victim]));
        EXPECT_FALSE(pte_chain_remove(chains, pages[which], list[victim])) << "it is gone";
        list.erase(list.begin() + static_cast<ptrdiff_t>(victim));
      }
      ASSERT_TRUE(SameEntries(Entries(pages[which]), list)) << "step " << step;
      ASSERT_EQ(pte_chain_empty(pages[which]), list.empty());
    }
    for (size_t which = 0; which < 3; ++which) {
      for (const PteAddr& entry : want[which]) EXPECT_TRUE(pte_chain_remove(chains, pages[which], entry));
      EXPECT_TRUE(pte_chain_empty(pages[which]));
    }
    EXPECT_EQ(chains.in_use(), 0u) << "every node came back";
  }
}

TEST(PteChain, ALongChainUsesNoMoreNodesThanItMust) {
  PteChains chains;
  Page page{};
  for (uint64_t i = 0; i < 300; ++i) pte_chain_add(chains, page, {FakeMm(1), (i + 1) * 0x1000});
  EXPECT_EQ(Entries(page).size(), 300u);
  EXPECT_EQ(Entries(page).front(), (PteAddr{FakeMm(1), 300 * 0x1000})) << "the latest first";
  EXPECT_EQ(chains.in_use(), 300u / NRPTE);
  for (uint64_t i = 0; i < 300; ++i) {
    EXPECT_TRUE(pte_chain_remove(chains, page, {FakeMm(1), (i + 1) * 0x1000}));
    EXPECT_LE(chains.in_use(), (300 - i) / NRPTE + 1) << "only the head has free entries";
  }
  EXPECT_EQ(chains.in_use(), 0u);
}

TEST(PteChains, TheNthTryAllocFailsOnce) {
  PteChains chains;
  chains.FailTryAlloc(3);
  std::vector<PteChain*> nodes;
  for (int i = 1; i <= 5; ++i) {
    PteChain* node = chains.TryAlloc();
    EXPECT_EQ(node == nullptr, i == 3) << i;
    if (node != nullptr) nodes.push_back(node);
  }
  EXPECT_EQ(chains.in_use(), 4u);
  chains.FailTryAlloc(1);
  nodes.push_back(chains.Alloc());
  EXPECT_NE(nodes.back(), nullptr) << "Alloc never fails";
  chains.FailTryAlloc(0);
  nodes.push_back(chains.TryAlloc());
  ASSERT_NE(nodes.back(), nullptr);
  for (PteChain* node : nodes) chains.Free(node);
  EXPECT_EQ(chains.in_use(), 0u);
}

}  // namespace
}  // namespace mm
