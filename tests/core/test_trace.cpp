#include <gtest/gtest.h>

#include <thread>

#include "duet/core/file.h"
#include "duet/core/json.h"
#include "duet/core/thread_name.h"
#include "duet/core/trace.h"
#include "duet/tests/temporary_directory.h"
#include "duet/tests/train/expect.h"

namespace duet {
namespace {

using testing::TemporaryDirectory;
using train::message_of;

const TraceEvent& named(const Trace& trace, const std::string& name) {
  for (const TraceEvent& e : trace.events)
    if (e.name == name) return e;
  throw Error("no event " + name);
}

TEST(Trace, RecordsNestedScopesWithTheirWork) {
  start_trace({});
  {
    const OpScope outer("outer", ScopeKind::phase);
    {
      const OpScope inner("inner");
      OpScope::computes(10);
      OpScope::computes(5);
      OpScope::touches(Tensor::zeros({3}, DType::f32), Tensor(), Tensor::zeros({2}, DType::f64));
    }
    const OpScope second("second", ScopeKind::backward);
    OpScope::moves(7);
  }
  const Trace trace = stop_trace();
  ASSERT_EQ(trace.events.size(), 3u);
  const TraceEvent &outer = named(trace, "outer"), &inner = named(trace, "inner"), &second = named(trace, "second");
  EXPECT_EQ(outer.kind, ScopeKind::phase);
  EXPECT_EQ(second.kind, ScopeKind::backward);
  for (const TraceEvent* e : {&inner, &second}) {
    EXPECT_LE(outer.begin, e->begin);
    EXPECT_LE(e->begin, e->end);
    EXPECT_LE(e->end, outer.end);
  }
  EXPECT_LE(inner.end, second.begin);
  EXPECT_EQ(outer.inside, inner.end - inner.begin + second.end - second.begin);
  EXPECT_EQ(inner.flops, 15);
  EXPECT_EQ(inner.bytes, 3 * 4 + 2 * 8);
  EXPECT_EQ(second.bytes, 7);
  EXPECT_EQ(outer.flops + outer.bytes, 0);  // what is inside is not counted again
}

TEST(Trace, OffMeansThatNothingIsRecorded) {
  const OpScope before("before");
  start_trace({});
  OpScope::computes(3);  // of a scope that the trace does not know
  stop_trace();
  { const OpScope between("between"); }
  start_trace({});
  const Trace trace = stop_trace();
  EXPECT_TRUE(trace.events.empty());
  EXPECT_TRUE(trace.memory.empty());
  EXPECT_FALSE(tracing());
}

TEST(Trace, AScopeThatOutlivesItsTraceIsLeftOut) {
  start_trace({});
  {
    const OpScope late("late");
    stop_trace();
    start_trace({});
    { const OpScope inside("inside"); }
  }
  const Trace trace = stop_trace();
  ASSERT_EQ(trace.events.size(), 1u);
  EXPECT_STREQ(trace.events[0].name, "inside");
}

TEST(Trace, CountsEachOperandOnceAndNotWhatIsHandedOn) {
  const Tensor a = Tensor::zeros({2, 3}, DType::f32), b = Tensor::zeros({4}, DType::f32);
  start_trace({});
  {
    const OpScope scope("op");
    trace_operands("another op", {a}, {b});  // e.g. one inside that has no scope
    trace_operands("op", {a, a, Tensor()}, {b});
  }
  {
    const OpScope scope("view");
    trace_operands("view", {a}, {a.reshape({6})});
  }
  {
    const OpScope scope("partly");
    trace_operands("partly", {a}, {a.reshape({6}), b});
  }
  {
    const OpScope scope("part");
    OpScope::moves(2);
    OpScope::touches(b);
    trace_operands("part", {a}, {b.clone()});
  }
  const Trace trace = stop_trace();
  const TraceEvent& op = named(trace, "op");
  ASSERT_EQ(op.inputs.size(), 2u);
  EXPECT_EQ(op.inputs[0].shape, a.shape());
  EXPECT_EQ(op.outputs.size(), 1u);
  EXPECT_EQ(op.bytes, 6 * 4 + 4 * 4);
  EXPECT_EQ(named(trace, "view").bytes, 0);
  EXPECT_EQ(named(trace, "partly").bytes, 6 * 4 + 4 * 4);
  EXPECT_EQ(named(trace, "part").bytes, 2 + 16);
}

TEST(Trace, KnowsThreadsByName) {
  start_trace({});
  std::thread([] {
    name_thread("helper");
    const OpScope scope("there");
  }).join();
  { const OpScope scope("here"); }
  const Trace trace = stop_trace();
  ASSERT_EQ(trace.threads.size(), 2u);
  EXPECT_EQ(trace.threads[0], "main");
  EXPECT_EQ(trace.threads[1], "helper");
  EXPECT_EQ(named(trace, "here").thread, 0);
  EXPECT_EQ(named(trace, "there").thread, 1);
}

TEST(Trace, FollowsTheAllocatorAndTakesNothingFromIt) {
  const int64_t requests = cpu_allocator().stats().requests;
  start_trace({});
  const int64_t in_use = cpu_allocator().stats().in_use_bytes;
  { const Tensor t = Tensor::empty({1 << 20}, DType::u8); }
  { const OpScope scope("op"); }
  const Trace trace = stop_trace();
  EXPECT_EQ(cpu_allocator().stats().requests, requests + 1);
  ASSERT_EQ(trace.memory.size(), 2u);
  EXPECT_EQ(trace.memory[0].bytes, in_use + (1 << 20));
  EXPECT_EQ(trace.memory[1].bytes, in_use);
  EXPECT_LE(trace.memory[0].time, trace.memory[1].time);
}

TEST(Trace, OneAtATime) {
  start_trace({});
  EXPECT_CONTAINS(message_of([] { start_trace({}); }), "another trace is being recorded");
  stop_trace();
  EXPECT_CONTAINS(message_of([] { stop_trace(); }), "no trace is being recorded");
}

// Times are written as microseconds with three decimals.
int64_t nanoseconds(const Json& number) {
  return std::llround(1e3 * number.get<double>());
}

TEST(TraceFile, IsChromesFormat) {
  const TemporaryDirectory directory;
  const std::string path = directory / "trace.json";
  start_trace({});
  {
    const OpScope outer("outer", ScopeKind::phase);
    const Tensor t = Tensor::empty({2, 5}, DType::f32);
    const OpScope inner("inner \"quoted\"", ScopeKind::backward);
    OpScope::computes(1234567890123);
    trace_operands("inner \"quoted\"", {t}, {t.reshape({10}), Tensor::empty({3}, DType::bf16)});
  }
  Trace trace = stop_trace();
  trace.device = {DeviceKind::cuda, 1};
  trace.kernels.push_back({"linear", "matmul", 1e-6, 3.5e-6});
  write_trace(trace, path);
  const Json json = read_json(path);
  std::map<std::string, Json> by_name;
  for (const Json& e : json.at("traceEvents"))
    by_name[e.at("ph").get<std::string>() + e.at("name").get<std::string>()] = e;
  const Json &outer = by_name.at("Xouter"), &inner = by_name.at("Xinner \"quoted\""), &kernel = by_name.at("Xmatmul");
  EXPECT_EQ(outer["cat"], "phase");
  EXPECT_FALSE(outer.contains("args"));
  EXPECT_EQ(inner["cat"], "backward");
  EXPECT_EQ(inner["args"], Json({{"inputs", {"(2, 5) float32"}},
                                 {"outputs", {"(10) float32", "(3) bfloat16"}},
                                 {"dtype", "float32"},
                                 {"flops", 1234567890123},
                                 {"bytes", 46}}));
  EXPECT_EQ(nanoseconds(outer["ts"]), trace.events[1].begin);
  EXPECT_EQ(nanoseconds(outer["dur"]), trace.events[1].end - trace.events[1].begin);
  EXPECT_EQ(outer["pid"], inner["pid"]);
  EXPECT_EQ(outer["tid"], inner["tid"]);
  EXPECT_EQ(by_name.at("Mthread_name")["args"]["name"], "kernels");  // the last of them
  EXPECT_EQ(by_name.at("Mprocess_name")["args"]["name"], "cuda:1");
  EXPECT_EQ(kernel["pid"], by_name.at("Mprocess_name")["pid"]);
  EXPECT_NE(kernel["pid"], outer["pid"]);
  EXPECT_EQ(kernel["ts"], 1.0);
  EXPECT_EQ(kernel["dur"], 2.5);
  EXPECT_EQ(kernel["args"]["op"], "linear");
  EXPECT_TRUE(by_name.at("CCPU memory in use")["args"]["bytes"].is_number_integer());
}

TEST(TraceFile, IsValidFromTheStartAndWrittenOnce) {
  const TemporaryDirectory directory;
  const std::string path = directory / "trace.json";
  {
    TraceFile file(path, {});
    EXPECT_TRUE(read_json(path).contains("traceEvents"));
    EXPECT_FALSE(tracing());
    file.start();
    { const OpScope scope("recorded"); }
    file.finish();
    EXPECT_FALSE(tracing());
    file.start();
    EXPECT_FALSE(tracing());
  }
  EXPECT_NE(read_file(path).find("recorded"), std::string::npos);
}

TEST(TraceFile, IsWrittenWhenAnExceptionEndsTheWork) {
  const TemporaryDirectory directory;
  const std::string path = directory / "trace.json";
  EXPECT_CONTAINS(message_of([&] {
                    TraceFile file(path, {});
                    file.start();
                    const OpScope scope("interrupted");
                    fail("test", "stop");
                  }),
                  "stop");
  EXPECT_FALSE(tracing());
  EXPECT_NE(read_json(path).dump().find("interrupted"), std::string::npos);
}

TEST(TraceFile, ThatCannotBeWrittenIsAnError) {
  const TemporaryDirectory directory;
  const std::string path = directory / "missing/trace.json";
  const std::string message = message_of([&] { TraceFile(path, {}); });
  EXPECT_CONTAINS(message, path);
  EXPECT_CONTAINS(message, "No such file or directory");
}

}  // namespace
}  // namespace duet
