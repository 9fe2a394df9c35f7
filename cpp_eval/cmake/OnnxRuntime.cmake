# The imported target `onnxruntime`: from -DONNXRUNTIME_ROOT=DIR (a release archive), else from what setup.sh made.
set(ONNXRUNTIME_ROOT "$ENV{ONNXRUNTIME_ROOT}" CACHE PATH "Folder with include/ and lib/ of ONNX Runtime")
set(onnxruntime_hints ${ONNXRUNTIME_ROOT} ${CMAKE_CURRENT_SOURCE_DIR}/build/ort)

find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_cxx_api.h
  HINTS ${onnxruntime_hints} PATH_SUFFIXES include include/onnxruntime include/onnxruntime/core/session)
find_library(ONNXRUNTIME_LIBRARY onnxruntime HINTS ${onnxruntime_hints} PATH_SUFFIXES lib lib64)
if(NOT ONNXRUNTIME_INCLUDE_DIR OR NOT ONNXRUNTIME_LIBRARY)
  message(FATAL_ERROR "ONNX Runtime not found: run cpp_eval/setup.sh, or give -DONNXRUNTIME_ROOT=<folder of a release archive>")
endif()

add_library(onnxruntime SHARED IMPORTED)
set_target_properties(onnxruntime PROPERTIES
  IMPORTED_LOCATION ${ONNXRUNTIME_LIBRARY}
  INTERFACE_INCLUDE_DIRECTORIES ${ONNXRUNTIME_INCLUDE_DIR}
  # The library may be newer or older than the headers: the program asks for the API by itself and says so in one line.
  INTERFACE_COMPILE_DEFINITIONS ORT_API_MANUAL_INIT)
