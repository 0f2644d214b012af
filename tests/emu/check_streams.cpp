// check_streams.cpp: which works - launches, and memsets and copies by the host - come after which others. checker.h
// has the rules.
#include <map>
#include <set>

#include "emu/check_order.h"

namespace emu {

uint32_t comes_after_all_below = 0;

namespace {

// A set of works, by serial number.
class Works {
 public:
  bool has(uint32_t serial) const { return serial < all_below_ || others_.count(serial) > 0; }

  uint32_t all_below() const { return all_below_; }

  void add(uint32_t serial) {
    if (serial >= all_below_) others_.insert(serial);
    tidy();
  }

  void add(const Works& works) {
    all_below_ = std::max(all_below_, works.all_below_);
    others_.insert(works.others_.begin(), works.others_.end());
    tidy();
  }

  void add_all_below(uint32_t serial) {
    all_below_ = std::max(all_below_, serial);
    tidy();
  }

 private:
  void tidy() {
    while (!others_.empty() && *others_.begin() <= all_below_) {
      if (*others_.begin() == all_below_) all_below_ += 1;
      others_.erase(others_.begin());
    }
  }

  uint32_t all_below_ = 1;
  std::set<uint32_t> others_;
};

struct StreamOrder {
  bool blocking = true;
  Works next;   // what the stream's next work comes after
  Works first;  // what its latest work came after at its first moment
  Works all;    // what is done when the stream is idle
};

struct EventOrder {
  Works next;
  Works all;
};

std::map<cudaStream_t, StreamOrder> streams;
std::map<cudaEvent_t, EventOrder> events;
Works known_to_host;

cudaStream_t stream_of_work;
Works first;        // what the present work came after at its first moment
Works when_waited;  // and where it has waited for its predecessor
bool has_waited = false;

StreamOrder& order_of(cudaStream_t stream) { return streams[stream == cudaStreamLegacy ? nullptr : stream]; }

// The default stream and each blocking stream come after one another.
Works of_other_streams(cudaStream_t stream) {
  Works works;
  const StreamOrder& mine = order_of(stream);
  const StreamOrder& default_stream = order_of(nullptr);
  for (const auto& [handle, other] : streams) {
    const bool is_default = &other == &default_stream;
    if (&other == &mine || !mine.blocking || !other.blocking) continue;
    if (&mine == &default_stream || is_default) works.add(other.next);
  }
  return works;
}

}  // namespace

void order_begin_work(cudaStream_t stream, bool programmatic) {
  running.serial += 1;
  stream_of_work = stream;
  StreamOrder& order = order_of(stream);
  const Works others = of_other_streams(stream);
  when_waited = order.next;
  when_waited.add(others);
  when_waited.add(known_to_host);
  first = when_waited;
  has_waited = !programmatic;
  if (programmatic) {
    first = order.first;
    first.add(others);
    first.add(known_to_host);
  }
  comes_after_all_below = first.all_below();
}

void order_end_work() {
  StreamOrder& order = order_of(stream_of_work);
  order.first = first;
  order.next = has_waited ? when_waited : first;
  order.next.add(running.serial);
  order.all.add(when_waited);
  order.all.add(running.serial);
}

void work_has_waited() { has_waited = true; }

bool comes_after_one(uint32_t serial) { return first.has(serial); }
bool comes_after_by_waiting(uint32_t short_one) { return when_waited.has(whole_serial(short_one)); }

void order_new_stream(cudaStream_t stream, bool blocking) {
  StreamOrder order;
  order.blocking = blocking;
  streams[stream] = order;
}

void order_record(cudaEvent_t event, cudaStream_t stream) {
  const StreamOrder& order = order_of(stream);
  const Works others = of_other_streams(stream);
  EventOrder recorded{order.next, order.all};
  recorded.next.add(others);
  recorded.all.add(others);
  events[event] = recorded;
}

void order_stream_waits(cudaStream_t stream, cudaEvent_t event) {
  StreamOrder& order = order_of(stream);
  order.next.add(events[event].next);
  order.first.add(events[event].next);
  order.all.add(events[event].all);
}

void order_host_waits(cudaEvent_t event) { known_to_host.add(events[event].all); }

void order_host_waits(cudaStream_t stream) {
  known_to_host.add(order_of(stream).all);
  known_to_host.add(of_other_streams(stream));
}

void order_host_waits_for_all() { known_to_host.add_all_below(running.serial + 1); }

}  // namespace emu
