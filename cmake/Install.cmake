# cmake --install: programs, completions, man pages, license. No headers and no libraries: they are this project's own.
include(GNUInstallDirs)

set(installed_programs pq)
if(PQ_WITH_TORCH)
  list(APPEND installed_programs pq-lab)
endif()
install(TARGETS ${installed_programs} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES README.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# From the flags of the programs themselves; pq asks the pq-lab beside it for those of its verbs.
set(share ${CMAKE_BINARY_DIR}/share)
set(completions ${share}/pq.bash ${share}/pq.zsh ${share}/pq.fish)
add_custom_command(OUTPUT ${completions} DEPENDS ${installed_programs} VERBATIM
  COMMAND ${CMAKE_COMMAND} -E make_directory ${share}
  COMMAND $<TARGET_FILE:pq> help --completion bash > ${share}/pq.bash
  COMMAND $<TARGET_FILE:pq> help --completion zsh > ${share}/pq.zsh
  COMMAND $<TARGET_FILE:pq> help --completion fish > ${share}/pq.fish)
add_custom_target(completions ALL DEPENDS ${completions})
install(FILES ${share}/pq.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME pq)
install(FILES ${share}/pq.zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions RENAME _pq)
install(FILES ${share}/pq.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)

find_program(PQ_HELP2MAN help2man DOC "Makes the man pages; without it there are none")
if(PQ_HELP2MAN)
  set(pages ${share}/man/pq.1)
  add_custom_command(OUTPUT ${pages} DEPENDS ${installed_programs} packaging/man-pages.sh VERBATIM
    COMMAND ${CMAKE_SOURCE_DIR}/packaging/man-pages.sh ${PQ_HELP2MAN} $<TARGET_FILE:pq> ${share}/man)
  add_custom_target(man_pages ALL DEPENDS ${pages})
  install(DIRECTORY ${share}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 FILES_MATCHING PATTERN "*.1")
endif()

# cpack -G DEB, which packaging/make-deb.sh calls.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME prefixquant)
set(CPACK_PACKAGE_CONTACT "The PrefixQuant authors")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "4-bit language models: quantize, measure and run them on the CPU")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
include(CPack)
