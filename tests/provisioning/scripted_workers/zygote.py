from gpu_workers.zygote import main

if __name__ == "__main__":
    main()
