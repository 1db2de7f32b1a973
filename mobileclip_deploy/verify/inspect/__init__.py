"""What a file is and holds; what a package would make the Neural Engine do; what is installed here."""
