# Two commands do everything on a fresh Debian 12 with Rust: `make demo` and `make test`.
.PHONY: demo test
demo test:
	@xtask/setup.sh
	@cargo xtask $@
