from kc_utils.cli import main

main()
