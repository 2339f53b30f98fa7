#include "duet/core/file.h"
#include "duet/core/json.h"
#include "duet/core/trace.h"

namespace duet {
namespace {

constexpr int host = 1, device = 2;  // process numbers of the time line

const char* category(ScopeKind kind) {
  switch (kind) {
    case ScopeKind::phase:
      return "phase";
    case ScopeKind::forward:
      return "forward";
    case ScopeKind::backward:
      return "backward";
    case ScopeKind::update:
      return "update";
    case ScopeKind::data:
      return "data";
  }
  return "";
}

// Nanoseconds as microseconds, the format's unit, without rounding: children stay inside their parents.
std::string microseconds(int64_t nanoseconds) {
  std::string digits = std::to_string(nanoseconds % 1000);
  return text(nanoseconds / 1000, '.', std::string(3 - digits.size(), '0'), digits);
}

std::string complete_event(const char* name, const char* category, int process, int thread, int64_t begin, int64_t end,
                           const Json& arguments) {
  return text(R"({"ph":"X","name":)", Json(name).dump(), R"(,"cat":")", category, R"(","pid":)", process, R"(,"tid":)",
              thread, R"(,"ts":)", microseconds(begin), R"(,"dur":)", microseconds(end - begin),
              arguments.empty() ? "" : text(R"(,"args":)", arguments.dump()), '}');
}

std::string metadata(const char* what, int process, int thread, const std::string& name) {
  return Json{{"ph", "M"}, {"name", what}, {"pid", process}, {"tid", thread}, {"args", {{"name", name}}}}.dump();
}

Json described(const std::vector<TensorKind>& tensors) {
  Json list = Json::array();
  for (const TensorKind& t : tensors) list.push_back(text(t.shape, ' ', t.dtype));
  return list;
}

Json arguments_of(const TraceEvent& e) {
  Json arguments = Json::object();
  if (!e.inputs.empty()) arguments["inputs"] = described(e.inputs);
  if (!e.outputs.empty()) {
    arguments["outputs"] = described(e.outputs);
    arguments["dtype"] = text(e.outputs[0].dtype);
  }
  if (e.flops > 0) arguments["flops"] = e.flops;
  if (e.bytes > 0) arguments["bytes"] = e.bytes;
  return arguments;
}

}  // namespace

void write_trace(const Trace& trace, const std::string& path) {
  AtomicFile file(path);
  std::string buffer = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n" + metadata("process_name", host, 0, "duet");
  const auto write = [&](const std::string& event) {
    buffer += ",\n" + event;
    if (buffer.size() < 1 << 20) return;
    file.write(buffer);
    buffer.clear();
  };
  for (size_t i = 0; i < trace.threads.size(); ++i)
    write(metadata("thread_name", host, static_cast<int>(i) + 1, trace.threads[i]));
  for (const TraceEvent& e : trace.events)
    write(complete_event(e.name, category(e.kind), host, e.thread + 1, e.begin, e.end, arguments_of(e)));
  if (!trace.kernels.empty()) {
    write(metadata("process_name", device, 0, text(trace.device)));
    write(metadata("thread_name", device, 1, "kernels"));
  }
  for (const KernelSpan& k : trace.kernels) {
    const auto begin = static_cast<int64_t>(1e9 * k.begin), end = static_cast<int64_t>(1e9 * k.end);
    write(complete_event(k.kernel, "kernel", device, 1, begin, end, {{"op", k.op}}));
  }
  for (const MemorySample& m : trace.memory)
    write(text(R"({"ph":"C","name":)", Json(text(m.allocator, " memory in use")).dump(), R"(,"pid":)", host,
               R"(,"ts":)", microseconds(m.time), R"(,"args":{"bytes":)", m.bytes, "}}"));
  file.write(buffer + "\n]}\n");
  file.commit(false);
}

}  // namespace duet
