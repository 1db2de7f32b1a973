"""`python -m mobileclip_deploy`: the command line of the interpreter at hand."""

from mobileclip_deploy.cli import main

if __name__ == "__main__":
    main()
