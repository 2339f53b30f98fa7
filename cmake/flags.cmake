set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

add_library(duet_flags INTERFACE)
# Designated initialisers leave the rest at their defaults, hence no warning for missing ones; g++ 12's -Wrestrict
# misfires on string concatenation (GCC bug 105329).
# No -ffast-math: NaN and infinity must survive. These two only drop errno and trap bookkeeping, which lets loops
# over exp and floor vectorise.
target_compile_options(duet_flags INTERFACE -Wall -Wextra -Wshadow -Wno-missing-field-initializers
                       -Wno-restrict -Werror -fno-math-errno -fno-trapping-math)
if(DUET_NATIVE)
  target_compile_options(duet_flags INTERFACE -march=native)
endif()
if(DUET_SANITIZE)
  # g++ 12 reports uninitialised values inside its own headers once they are instrumented (GCC bug 105562).
  target_compile_options(duet_flags INTERFACE -fsanitize=${DUET_SANITIZE} -fno-omit-frame-pointer
                         -Wno-maybe-uninitialized)
  target_link_options(duet_flags INTERFACE -fsanitize=${DUET_SANITIZE})
endif()
