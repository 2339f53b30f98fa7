#include <gtest/gtest.h>

#include "duet/core/sha256.h"

namespace duet {
namespace {

std::string sha256(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex();
}

// The examples published with FIPS 180-4.
TEST(Sha256, MatchesThePublishedExamples) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, DoesNotDependOnHowTheBytesArrive) {
  const std::string message(300, 'x');
  for (const size_t step : {1, 7, 55, 56, 63, 64, 65, 128}) {
    Sha256 hash;
    for (size_t i = 0; i < message.size(); i += step) hash.update(std::string_view(message).substr(i, step));
    EXPECT_EQ(hash.hex(), sha256(message)) << "step " << step;
  }
}

}  // namespace
}  // namespace duet
