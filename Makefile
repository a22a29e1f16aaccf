# Two commands do everything on a fresh Debian 12 with Rust: `make demo` and `make test`.
.PHONY: demo test
demo:
	@xtask/setup.sh
	@cargo xtask demo
test:
	@xtask/setup.sh test
	@cargo xtask test
