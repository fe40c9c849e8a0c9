"""A custom executor written as pymesos' documentation shows: many tasks in one process, results as status data, messages
both ways. A task's data says what to do: text to echo, `hold` until it is killed, or `die` at once."""

import base64
import os
import sys
import threading
import time

from addict import Dict
from pymesos import Executor, MesosExecutorDriver, decode_data, encode_data


class Echo(Executor):
    def registered(self, driver, executor_info, framework_info, agent_info):
        print("registered", executor_info.executor_id.value, "on", agent_info.id.value, flush=True)

    def reregistered(self, driver, agent_info):
        print("reregistered", flush=True)

    def send(self, driver, task_id, state, data=None):
        update = Dict(state=state, timestamp=time.time())
        update.task_id.value = task_id
        if data is not None:
            update.data = encode_data(data)
        driver.sendStatusUpdate(update)

    def launchTask(self, driver, task):
        task_id, want = task.task_id.value, decode_data(task.data)
        self.send(driver, task_id, "TASK_RUNNING")
        if want == b"die":
            os._exit(7)
        if want == b"hold":
            return
        threading.Thread(target=self.send, args=(driver, task_id, "TASK_FINISHED", want.upper())).start()

    def killTask(self, driver, task_id):
        self.send(driver, task_id.value, "TASK_KILLED")

    def frameworkMessage(self, driver, message):
        driver.sendFrameworkMessage(encode_data(b"echo:" + decode_data(message)))

    def shutdown(self, driver):
        print("shutdown", flush=True)


if __name__ == "__main__":
    driver = MesosExecutorDriver(Echo(), use_addict=True)
    driver.start()
    driver.join()
