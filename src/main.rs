fn main() -> std::process::ExitCode {
    gatepost::cli::main()
}
