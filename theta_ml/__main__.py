from theta_ml.cli import main

main()
