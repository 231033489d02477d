#include "mm/pte_chain.h"

namespace mm {

PteChain* PteChains::Alloc() {
  if (free_ == nullptr) {
    slabs_.push_back(std::make_unique<PteChain[]>(kSlab));
    for (size_t i = kSlab; i-- > 0;) {
      slabs_.back()[i].next = free_;
      free_ = &slabs_.back()[i];
    }
  }
  PteChain* chain = free_;
  free_ = chain->next;
  ++in_use_;
  chain->next = nullptr;
  chain->first = NRPTE;
  return chain;
}

PteChain* PteChains::TryAlloc() {
  if (fail_in_ > 0 && --fail_in_ == 0) return nullptr;
  return Alloc();
}

void PteChains::Free(PteChain* chain) {
  chain->next = free_;
  free_ = chain;
  --in_use_;
}

namespace {

void SetDirect(Page& page, PteAddr pte) {
  page.flags |= PG_direct;
  page.rmap = reinterpret_cast<uint64_t>(pte.mm);
  page.rmap_addr = pte.addr;
}

void SetChain(Page& page, PteChain* chain) {
  page.flags &= ~PG_direct;
  page.rmap = reinterpret_cast<uint64_t>(chain);
  page.rmap_addr = 0;
}

}  // namespace

void pte_chain_add(PteChains& chains, Page& page, PteAddr pte, PteChain** spare) {
  if (page.rmap == 0) return SetDirect(page, pte);
  const bool direct = (page.flags & PG_direct) != 0;
  PteChain* head = direct ? nullptr : pte_chain(page);
  if (direct || head->first == 0) {
    PteChain* node = spare != nullptr && *spare != nullptr ? *spare : chains.Alloc();
    if (spare != nullptr) *spare = nullptr;
    node->next = head;
    if (direct) node->ptes[--node->first] = pte_direct(page);
    head = node;
    SetChain(page, head);
  }
  head->ptes[--head->first] = pte;
}

bool pte_chain_remove(PteChains& chains, Page& page, PteAddr pte) {
  if (page.rmap == 0) return false;
  if ((page.flags & PG_direct) != 0) {
    if (pte_direct(page) != pte) return false;
    SetChain(page, nullptr);
    return true;
  }
  PteChain* head = pte_chain(page);
  PteAddr* found = nullptr;
  for (PteChain* chain = head; chain != nullptr && found == nullptr; chain = chain->next) {
    for (uint32_t i = chain->first; i < NRPTE && found == nullptr; ++i) {
      if (chain->ptes[i] == pte) found = &chain->ptes[i];
    }
  }
  if (found == nullptr) return false;
  // The head's first entry takes its place.
  *found = head->ptes[head->first++];
  if (head->first == NRPTE) {
    SetChain(page, head->next);
    chains.Free(head);
    head = pte_chain(page);
  }
  // The last one left needs no chain.
  if (head != nullptr && head->next == nullptr && head->first == NRPTE - 1) {
    SetDirect(page, head->ptes[NRPTE - 1]);
    chains.Free(head);
  }
  return true;
}

}  // namespace mm
