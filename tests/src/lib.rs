//! Starts and stops what the tests need. Each server is private to the test run: own port, own directory, loopback only.
