#pragma once

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "duet/core/error.h"
#include "duet/tests/temporary_directory.h"

// Running the duet binary as users do: arguments in, exit status and both output streams out.
namespace duet::testing {

struct Finished {
  int status = -1;  // exit status, or -1 after a signal
  int signal = 0;   // that ended the process
  std::string out, err;

  // The lines of stderr that begin with "duet: ", warnings left aside.
  std::vector<std::string> error_lines() const {
    std::vector<std::string> found;
    for (size_t begin = 0; begin < err.size();) {
      const size_t end = std::min(err.find('\n', begin), err.size());
      const std::string line = err.substr(begin, end - begin);
      if (line.starts_with("duet: ") && !line.starts_with("duet: warning: ")) found.push_back(line);
      begin = end + 1;
    }
    return found;
  }
};

struct ProcessOptions {
  std::string input;        // standard input
  rlim_t largest_file = 0;  // bytes; 0 = unlimited. Writing more fails with EFBIG, as a full disk does with ENOSPC
  std::string directory;    // to start in
  std::string program = DUET_BINARY;
};

// A child process whose streams are kept in memory files, so that it never blocks on a pipe nobody reads.
class Process {
 public:
  explicit Process(std::vector<std::string> arguments, const ProcessOptions& options = {}) {
    for (int& stream : streams_) stream = ::memfd_create("stream", MFD_CLOEXEC);
    check(
        ::write(streams_[0], options.input.data(), options.input.size()) == static_cast<ssize_t>(options.input.size()),
        "test", "cannot fill standard input");
    ::lseek(streams_[0], 0, SEEK_SET);
    arguments.insert(arguments.begin(), options.program);
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    id_ = ::fork();
    check(id_ >= 0, "test", "cannot fork");
    if (id_ > 0) return;
    for (int i = 0; i < 3; ++i) ::dup2(streams_[i], i);
    if (options.largest_file > 0) {
      const rlimit limit{options.largest_file, options.largest_file};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      ::signal(SIGXFSZ, SIG_IGN);
    }
    if (!options.directory.empty() && ::chdir(options.directory.c_str()) != 0) ::_exit(126);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ~Process() {
    if (id_ > 0) {
      ::kill(id_, SIGKILL);
      ::waitpid(id_, nullptr, 0);
    }
    for (const int stream : streams_) ::close(stream);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void send(int signal) const {
    if (id_ > 0) ::kill(id_, signal);
  }
  bool running() {
    reap(WNOHANG);
    return id_ > 0;
  }
  // What the process has written to stderr so far.
  std::string err() const { return content(2); }

  Finished wait() {
    reap(0);
    Finished f;
    if (WIFEXITED(raw_status_)) f.status = WEXITSTATUS(raw_status_);
    if (WIFSIGNALED(raw_status_)) f.signal = WTERMSIG(raw_status_);
    f.out = content(1);
    f.err = content(2);
    return f;
  }

 private:
  void reap(int flags) {
    if (id_ > 0 && ::waitpid(id_, &raw_status_, flags) == id_) id_ = -1;
  }
  std::string content(int i) const {
    struct stat about {};
    ::fstat(streams_[i], &about);  // not lseek: the child shares the position
    std::string bytes(static_cast<size_t>(about.st_size), '\0');
    const ssize_t read = ::pread(streams_[i], bytes.data(), bytes.size(), 0);
    bytes.resize(static_cast<size_t>(std::max<ssize_t>(0, read)));
    return bytes;
  }

  pid_t id_ = -1;
  int raw_status_ = 0;
  int streams_[3];
};

inline Finished run(std::vector<std::string> arguments, const ProcessOptions& options = {}) {
  return Process(std::move(arguments), options).wait();
}

// Waits until `condition` holds; false when that takes longer than `seconds`.
template <class Condition>
bool wait_until(Condition condition, double seconds = 30) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace duet::testing
