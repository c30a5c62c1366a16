from tests.threads import single_thread as single_thread
