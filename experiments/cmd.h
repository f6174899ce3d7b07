/* The commands of `attar`, one cmd_<name>.c each. */
#ifndef ATTAR_EXPERIMENTS_CMD_H
#define ATTAR_EXPERIMENTS_CMD_H

#define CMD_VERSION "0.1.0"

enum { CMD_USAGE = -2 };

/* argv[0] is the command's name. 0, -1 with err() set (exit status 1), or CMD_USAGE with err() set
   (exit status 2: the call was wrong). Results go to stdout, notes to stderr. */
int cmd_run(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_tokenizer(int argc, char **argv);
int cmd_data(int argc, char **argv);
int cmd_generate(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_quantize(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_imatrix(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_report(int argc, char **argv);

#endif
