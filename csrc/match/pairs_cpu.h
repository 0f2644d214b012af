// The bipartite rule of match on the CPU: each ground truth of an image gets a default box of its own.
#pragma once

#include "common/vector.h"
#include "match/match_task.h"
#include "match/tiles_cpu.h"

namespace ssd {

// One per thread, which reuses its memory.
class PairMatcher {
 public:
  PairMatcher(const MatchTask& task, const Vector<Tile>& tiles) : task_(task), tiles_(tiles) {}

  // Takes the best pair of a free ground truth and a free default box until none is left. Ties go as pair_key ranks
  // them, then to the lower ground truth. `pairs` has the best pair of each ground truth, or 0 if it is ignored.
  void match(const Box* gts, Vector<uint64_t>& pairs, int64_t* matched);

 private:
  // What a ground truth turns to when its box is taken.
  struct NextPairs {
    Vector<uint64_t> keys;  // the best pairs with default boxes that overlap it and were free then; best last
    bool complete = false;  // no other free default box overlaps it
    size_t wanted = 0;      // how many pairs the next search is to find
  };
  uint64_t next_pair(const Box& gt, NextPairs& next);
  void search(const Box& gt, NextPairs& next);
  uint64_t pair_without_overlap();

  const MatchTask& task_;
  const Vector<Tile>& tiles_;
  Vector<char> taken_;
  int first_free_ = 0;  // no default box before it is free
  Vector<NextPairs> next_;
  size_t most_wanted_ = 0;
  Vector<uint64_t> found_;
};

}  // namespace ssd
