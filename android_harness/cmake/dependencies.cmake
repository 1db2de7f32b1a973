# What the harness is built with: targets json, doctest_header, onnxruntime_header, executorch_sdk.
#
#   NLOHMANN_JSON_INCLUDE  folder that holds nlohmann/json.hpp (Debian: nlohmann-json3-dev)
#   DOCTEST_INCLUDE        folder that holds doctest/doctest.h (Debian: doctest-dev); only for the tests
#   ONNXRUNTIME_INCLUDE    folder that holds onnxruntime_c_api.h (Debian: libonnxruntime-dev)
#   ONNXRUNTIME_LIBRARY    libonnxruntime.so* for the device; copied into bin/, not linked
#   ONNXRUNTIME_AAR        onnxruntime-android-*.aar instead of the two
#   EXECUTORCH_ROOT        the folder `executorch` of the wheel for the device's platform
#   LITERT_ROOT            the folder `ai_edge_litert` of the wheel for the device's platform, the wheel's .dist-info next to
#                          it; copied into bin/, not linked
#   LITERT_AAR             litert-VERSION.aar instead of it, with the libraries for its GPU

set(third_party "${CMAKE_BINARY_DIR}/third_party")

# A header-only package by a link of its own: -isystem /usr/include would give a cross compiler the host's C library.
function(header_package target variable folder header package)
  find_path(${variable} "${folder}/${header}" HINTS /usr/include NO_CMAKE_FIND_ROOT_PATH)
  if(NOT EXISTS "${${variable}}/${folder}/${header}")
    message(FATAL_ERROR "${folder}/${header} not found: install ${package}, or pass -D${variable}=FOLDER")
  endif()
  file(MAKE_DIRECTORY "${third_party}/${target}")
  file(CREATE_LINK "${${variable}}/${folder}" "${third_party}/${target}/${folder}" SYMBOLIC)
  add_library(${target} INTERFACE)
  target_include_directories(${target} SYSTEM INTERFACE "${third_party}/${target}")
endfunction()

function(unpack_aar file into)
  if(NOT EXISTS "${file}")
    message(FATAL_ERROR "${file} does not exist: pass the path of the AAR that you downloaded")
  endif()
  file(ARCHIVE_EXTRACT INPUT "${file}" DESTINATION "${into}")
endfunction()

# Copies the libraries of a program next to it, under the names that it loads.
function(bring_along file name)
  file(MAKE_DIRECTORY "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  file(COPY_FILE "${file}" "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/${name}" ONLY_IF_DIFFERENT)
endfunction()

if(ANDROID)
  # CMake writes no run path for Android, and NDKs before r28 align to 4 KB, which kernels with 16 KB pages refuse.
  add_link_options("LINKER:-rpath,$ORIGIN" "LINKER:-z,max-page-size=16384")
endif()

header_package(json NLOHMANN_JSON_INCLUDE nlohmann json.hpp nlohmann-json3-dev)
if(BUILD_TESTS)
  header_package(doctest_header DOCTEST_INCLUDE doctest doctest.h doctest-dev)
endif()

if(BUILD_ONNXRUNTIME)
  if(ONNXRUNTIME_AAR)
    unpack_aar("${ONNXRUNTIME_AAR}" "${third_party}/onnxruntime_aar")
    set(ONNXRUNTIME_INCLUDE "${third_party}/onnxruntime_aar/headers")
    if(NOT ANDROID_ABI)
      set(ANDROID_ABI arm64-v8a)
    endif()
    set(ONNXRUNTIME_LIBRARY "${third_party}/onnxruntime_aar/jni/${ANDROID_ABI}/libonnxruntime.so")
  endif()
  find_path(ONNXRUNTIME_INCLUDE onnxruntime_c_api.h HINTS /usr/include/onnxruntime NO_CMAKE_FIND_ROOT_PATH)
  if(NOT EXISTS "${ONNXRUNTIME_INCLUDE}/onnxruntime_c_api.h")
    message(FATAL_ERROR "onnxruntime_c_api.h not found: pass -DONNXRUNTIME_AAR=FILE, or install libonnxruntime-dev, or "
                        "pass -DONNXRUNTIME_INCLUDE=FOLDER, or turn the runner off with -DBUILD_ONNXRUNTIME=OFF")
  endif()
  add_library(onnxruntime_header INTERFACE)
  target_include_directories(onnxruntime_header SYSTEM INTERFACE "${ONNXRUNTIME_INCLUDE}")
  if(ONNXRUNTIME_LIBRARY)
    bring_along("${ONNXRUNTIME_LIBRARY}" libonnxruntime.so)
  else()
    message(STATUS "ONNXRUNTIME_LIBRARY is not given: put libonnxruntime.so for the device into bin/ yourself")
  endif()
endif()

if(BUILD_EXECUTORCH)
  if(ANDROID OR EXECUTORCH_AAR)
    message(FATAL_ERROR "ExecuTorch's runner cannot be built for Android's C library: its AAR exports JNI functions only, "
                        "and its build refuses shared libraries for Android. Use the ready runners (make "
                        "android-runners), and -DBUILD_EXECUTORCH=OFF here")
  endif()
  if(NOT EXISTS "${EXECUTORCH_ROOT}/include/executorch")
    message(FATAL_ERROR "ExecuTorch not found: pass -DEXECUTORCH_ROOT=FOLDER, the folder `executorch` of its unpacked "
                        "wheel, or turn the runner off with -DBUILD_EXECUTORCH=OFF")
  endif()
  find_package(executorch REQUIRED CONFIG PATHS "${EXECUTORCH_ROOT}/lib/cmake/executorch" NO_DEFAULT_PATH
               NO_CMAKE_FIND_ROOT_PATH)
  add_library(executorch_sdk INTERFACE)
  target_compile_definitions(executorch_sdk INTERFACE MOBILECLIP_EXECUTORCH_VERSION="${EXECUTORCH_BUILD_VERSION}")
  # With every kernel and backend that the wheel has, quantized kernels too: a program of any precision runs.
  set(components runtime kernels_optimized kernels_quantized backend_xnnpack threadpool)
  foreach(component ${components})
    # The libraries are next to the program, wherever they are while it is built.
    get_target_property(options executorch::${component} INTERFACE_LINK_OPTIONS)
    list(FILTER options EXCLUDE REGEX "-rpath,/")
    set_property(TARGET executorch::${component} PROPERTY INTERFACE_LINK_OPTIONS "${options}")
    target_link_libraries(executorch_sdk INTERFACE executorch::${component})
  endforeach()
  file(GLOB libraries "${EXECUTORCH_ROOT}/lib/libexecutorch*.so")
  list(FILTER libraries EXCLUDE REGEX "openvino|qnn|etdump")
  foreach(library ${libraries})
    cmake_path(GET library FILENAME name)
    bring_along("${library}" "${name}")
  endforeach()
endif()

if(BUILD_LITERT)
  # The library does not report its version: its package does, in the folder next to it.
  set(metadata "${third_party}/libLiteRt.so.metadata")
  if(LITERT_AAR)
    if(NOT LITERT_AAR MATCHES "litert-([0-9][0-9A-Za-z.]*)\\.aar$")
      message(FATAL_ERROR "${LITERT_AAR}: its name lacks its version; call it litert-VERSION.aar, as Maven does")
    endif()
    file(WRITE "${metadata}" "Version: ${CMAKE_MATCH_1}\n")
    unpack_aar("${LITERT_AAR}" "${third_party}/litert_aar")
    if(NOT ANDROID_ABI)
      set(ANDROID_ABI arm64-v8a)
    endif()
    file(GLOB litert_libraries "${third_party}/litert_aar/jni/${ANDROID_ABI}/libLiteRt*.so")
  elseif(LITERT_ROOT)
    file(GLOB described "${LITERT_ROOT}/../ai_edge_litert-*.dist-info/METADATA")
    if(NOT described)
      message(FATAL_ERROR "no ai_edge_litert-*.dist-info/METADATA next to ${LITERT_ROOT}; unpack the whole wheel there")
    endif()
    file(COPY_FILE "${described}" "${metadata}" ONLY_IF_DIFFERENT)
    set(litert_libraries "${LITERT_ROOT}/libLiteRt.so")
  endif()
  if(NOT litert_libraries)
    message(STATUS "Neither LITERT_AAR nor LITERT_ROOT is given: put libLiteRt.so for the device into bin/ yourself, and "
                   "a line `Version: ...` into libLiteRt.so.metadata")
  else()
    bring_along("${metadata}" libLiteRt.so.metadata)
  endif()
  foreach(library ${litert_libraries})
    cmake_path(GET library FILENAME name)
    bring_along("${library}" "${name}")
  endforeach()
endif()
