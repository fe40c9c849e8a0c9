"""How often does each word occur? As dpark's documentation shows it; prints one line of JSON."""

import json
import sys

from dpark import DparkContext, optParser

optParser.add_option("--words")
options, _ = optParser.parse_args()
lines = DparkContext().textFile(options.words, numSplits=3)
words = lines.flatMap(lambda line: line.split()).map(lambda word: (word, 1))
counts = words.reduceByKey(lambda a, b: a + b, 2).collectAsMap()
print(json.dumps(sorted(counts.items())))
sys.stdout.flush()
