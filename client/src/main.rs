//! opsctl: the client on the operator's laptop and in CI.

fn main() -> std::process::ExitCode {
    ops_client::main(std::env::args_os())
}
