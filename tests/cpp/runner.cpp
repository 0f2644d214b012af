// runner.cpp: runs cases under schedules, and prints a line for each.
#include "runner.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>

#ifdef SSD_EMULATED
#include "emu/emu.h"
#endif

namespace ssd::test {
namespace {

#ifdef SSD_CHECKED
constexpr bool kChecked = true;
#else
constexpr bool kChecked = false;
#endif

constexpr int kFaultSchedules = 5;  // each kind of schedule; a fault is found at once or never

// The first two seeds are the orderly schedules; the others are random, some of them with threads switched often.
void begin_schedule(int seed) {
#ifdef SSD_EMULATED
  emu::Options options;
  options.seed = static_cast<uint64_t>(seed);
  options.order = seed == 0 ? emu::Order::kInOrder : seed == 1 ? emu::Order::kReverse : emu::Order::kRandom;
  options.preempt = seed < 2 || seed % 3 == 0 ? 0 : seed % 3 == 1 ? 4 : 64;
  options.resident_blocks = 4 + static_cast<unsigned>(seed) % 4;
  options.blocks_per_multiprocessor = 1 + static_cast<unsigned>(seed) % 3;
  emu::restart(options);
#else
  (void)seed;
#endif
}

std::vector<std::string> findings() {
#ifdef SSD_EMULATED
  return emu::findings();
#else
  return {};
#endif
}

}  // namespace

uint64_t Random::bits() {
  uint64_t z = state_ += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

float Random::uniform(float low, float high) {
  const float unit = static_cast<float>(bits() >> 40) * 0x1p-24f;
  return low + (high - low) * unit;
}

std::vector<float> Random::uniform(std::size_t size, float low, float high) {
  std::vector<float> values(size);
  for (float& value : values) value = uniform(low, high);
  return values;
}

void Case::hash_bytes(const void* data, std::size_t bytes) {  // FNV-1a
  for (std::size_t i = 0; i < bytes; ++i) {
    hash_ = (hash_ ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3ull;
  }
}

// The outcome of a case under all schedules.
struct Runner::Outcome {
  int schedules = 0;
  int wrong = 0;
  int reported = 0;
  int thrown = 0;
  bool bits_differ = false;
  std::string first_wrong;
  std::string first_thrown;
  std::vector<std::string> texts;  // all findings of a schedule, joined
  double seconds = 0;

  std::string first_text() const {
    for (const std::string& text : texts) {
      if (!text.empty()) return text;
    }
    return "nothing was reported";
  }
};

Runner::Runner(const std::string& family, int argc, char** argv, int schedules)
    : family_(family), schedules_(schedules), faults_(kChecked) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--list") {
      list_ = true;
    } else if (argument == "--faults" || argument == "--no-faults") {
      faults_ = argument == "--faults";
    } else if (argument == "--stop") {
      stop_ = true;
    } else if ((argument == "--schedules" || argument == "--seed") && i + 1 < argc) {
      (argument == "--seed" ? first_seed_ : schedules_) = std::atoi(argv[++i]);
    } else if (argument[0] == '-') {
      std::fprintf(stderr,
                   "usage: %s [--schedules N] [--seed FIRST] [--faults | --no-faults] [--stop] [--list] [name...]\n",
                   argv[0]);
      std::exit(2);
    } else {
      wanted_.push_back(argument);
    }
  }
}

bool Runner::selected(const std::string& name) const {
  for (const std::string& part : wanted_) {
    if (name.find(part) != std::string::npos) return true;
  }
  return wanted_.empty();
}

Runner::Outcome Runner::run(const Function& function, int schedules) const {
  const auto start = std::chrono::steady_clock::now();
  Outcome outcome;
  outcome.schedules = schedules;
  uint64_t first_hash = 0;
  for (int i = 0; i < schedules; ++i) {
    begin_schedule(first_seed_ + i);
    Case one;
    try {
      function(one);
      if (i == 0) first_hash = one.hash();
      if (one.hash() != first_hash) outcome.bits_differ = true;
    } catch (const std::exception& error) {
      outcome.thrown += 1;
      if (outcome.first_thrown.empty()) outcome.first_thrown = error.what();
    }
    if (!one.wrong().empty()) outcome.wrong += 1;
    if (outcome.first_wrong.empty()) outcome.first_wrong = one.wrong();
    std::string text;
    for (const std::string& finding : findings()) text += finding + "\n";
    if (!text.empty()) outcome.reported += 1;
    outcome.texts.push_back(text);
  }
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return outcome;
}

void Runner::print(bool passed, const std::string& verdict, const std::string& name, const Outcome& outcome,
                   const std::string& why) {
  (passed ? passed_ : failed_) += 1;
  std::printf("%-7s %-40s %d schedules, wrong in %d, reported in %d (%.2f s)\n", verdict.c_str(), name.c_str(),
              outcome.schedules, outcome.wrong, outcome.reported, outcome.seconds);
  if (!passed) std::printf("  %s\n", why.c_str());
  std::fflush(stdout);
  if (!passed && stop_) std::exit(finish());
}

void Runner::good(const std::string& name, const Function& function) {
  if (!selected(name)) return;
  if (list_) return void(std::printf("%s\n", name.c_str()));
  const Outcome outcome = run(function, schedules_);
  const bool passed = outcome.wrong + outcome.reported + outcome.thrown == 0 && !outcome.bits_differ;
  std::string why = outcome.first_wrong;
  if (outcome.bits_differ) why += "\n  results differ between schedules";
  if (!outcome.first_thrown.empty()) why += "\n  " + outcome.first_thrown;
  print(passed, passed ? "pass" : "FAIL", name, outcome, why + "\n  " + outcome.first_text());
}

void Runner::fault(const std::string& name, const std::string& expected, const Function& function) {
  if (!selected(name) || !faults_) return;
  if (list_) return void(std::printf("%s\n", name.c_str()));
  const Outcome outcome = run(function, std::min(schedules_, kFaultSchedules));
  const auto as_expected = std::count_if(outcome.texts.begin(), outcome.texts.end(), [&](const std::string& text) {
    return text.find(expected) != std::string::npos;
  });
  const bool caught =
      kChecked ? as_expected == outcome.schedules : outcome.wrong + outcome.reported + outcome.thrown > 0;
  const std::string why = "not reported as \"" + expected + "\" under every schedule; " + outcome.first_text();
  print(caught, caught ? "caught" : "MISSED", name, outcome, why);
}

int Runner::finish() {
  if (list_) return 0;
  std::printf("%s: %d passed, %d failed\n", family_.c_str(), passed_, failed_);
  if (passed_ + failed_ == 0) std::printf("no case has that name\n");
  return failed_ == 0 && passed_ > 0 ? 0 : 1;
}

}  // namespace ssd::test
