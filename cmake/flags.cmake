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
# Kernels in CUDA have flags of their own, see cuda.cmake.
add_compile_options($<$<COMPILE_LANGUAGE:CUDA>:-Wno-deprecated-gpu-targets>)
target_compile_options(duet_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wno-missing-field-initializers>"
                       $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict> "$<$<COMPILE_LANGUAGE:CXX>:-Werror;-fno-math-errno;-fno-trapping-math>")
target_compile_definitions(duet_flags INTERFACE DUET_CUDA_BUILT=$<BOOL:${DUET_CUDA_BUILT}>)
if(DUET_NATIVE)
  target_compile_options(duet_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-march=native>)
endif()
if(DUET_SANITIZE)
  # g++ 12 reports uninitialised values inside its own headers once they are instrumented (GCC bug 105562).
  target_compile_options(duet_flags INTERFACE -fsanitize=${DUET_SANITIZE} -fno-omit-frame-pointer
                         $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  if(DUET_SANITIZE_WITHOUT)
    target_compile_options(duet_flags INTERFACE -fno-sanitize=${DUET_SANITIZE_WITHOUT})
  endif()
  target_link_options(duet_flags INTERFACE -fsanitize=${DUET_SANITIZE})
endif()
if(DUET_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL Clang)
    message(FATAL_ERROR "DUET_FUZZ needs clang, which brings libFuzzer: use the preset fuzz, and install it with: "
                        "tools/install_packages fuzz")
  endif()
  # Coverage in the libraries; the targets alone get libFuzzer's main. Any report of a sanitizer is a finding.
  # Loops that must be vectorised are not at -O1, which clang would report.
  target_compile_options(duet_flags INTERFACE -fsanitize=fuzzer-no-link -fno-sanitize-recover=all -Wno-pass-failed)
endif()
