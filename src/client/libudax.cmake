# SPDX-License-Identifier: BSD-3-Clause
#
# libudax.so, the preload shim, and what installs them. Nothing but the C library and the C++ run-time is linked dynamically.
set(UDAX_API_MAJOR 1)
set(UDAX_API_MINOR 0)
set(client_dir ${CMAKE_SOURCE_DIR}/src/client)
file(GLOB client_sources CONFIGURE_DEPENDS ${client_dir}/*.cc)
set(client_base ${CMAKE_SOURCE_DIR}/src/base/mutex.cc)
if(UDAX_SYNC_POINTS)
  list(APPEND client_base ${CMAKE_SOURCE_DIR}/src/base/sync_point.cc ${CMAKE_SOURCE_DIR}/src/base/error.cc)
endif()
add_library(libudax SHARED ${client_sources} ${client_base})
set_target_properties(libudax PROPERTIES
  OUTPUT_NAME udax VERSION ${UDAX_API_MAJOR}.${UDAX_API_MINOR} SOVERSION ${UDAX_API_MAJOR}
  CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib LINK_DEPENDS ${client_dir}/libudax.map)
target_link_libraries(libudax PRIVATE Threads::Threads)
udax_precompile(libudax)
target_link_options(libudax PRIVATE -Wl,--version-script=${client_dir}/libudax.map -Wl,-z,nodelete)
if(NOT UDAX_SANITIZE)
  target_link_options(libudax PRIVATE -Wl,--no-undefined)
endif()

file(GLOB shim_sources CONFIGURE_DEPENDS ${client_dir}/preload/*.cc)
add_library(libudax_preload SHARED ${shim_sources})
set_target_properties(libudax_preload PROPERTIES
  OUTPUT_NAME udax_preload CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib BUILD_RPATH "$ORIGIN" INSTALL_RPATH "$ORIGIN")
# _FORTIFY_SOURCE and builtins must not turn these functions into others.
target_compile_options(libudax_preload PRIVATE -fno-builtin -U_FORTIFY_SOURCE)
target_link_libraries(libudax_preload PRIVATE libudax ${CMAKE_DL_LIBS})

set(UDAX_PC ${CMAKE_CURRENT_BINARY_DIR}/udax.pc)
file(WRITE ${UDAX_PC} "prefix=${CMAKE_INSTALL_PREFIX}
libdir=\${prefix}/${CMAKE_INSTALL_LIBDIR}
includedir=\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}

Name: udax
Description: Mappings of files on udaxfs that are the pool's own memory
Version: ${UDAX_API_MAJOR}.${UDAX_API_MINOR}
Libs: -L\${libdir} -ludax
Cflags: -I\${includedir}
")
install(TARGETS libudax libudax_preload LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${UDAX_PC} DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
