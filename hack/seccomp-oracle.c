/*
 * What libseccomp makes of a profile, for the test `agrees_with_libseccomp`: hack/seccomp-oracle builds and runs it.
 *
 * With the word `names`: the calls that libseccomp knows, a line for each: architecture's token, number, name.
 * Else its input is, one word after the other:
 *     default ACTION | arch TOKEN | rule ACTION NAME COUNT {INDEX OP VALUE VALUE_TWO}
 * and its output the program, as an array of struct sock_filter. Rules are added as runc adds them.
 */
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void demand(int holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "oracle: %s\n", what);
		exit(1);
	}
}

static void add_rule(scmp_filter_ctx filter, uint32_t defaults)
{
	char name[64];
	uint32_t action;
	unsigned count;
	struct scmp_arg_cmp args[6];

	demand(scanf("%" SCNu32 " %63s %u", &action, name, &count) == 3 && count <= 6, "rule");
	for (unsigned i = 0; i < count; i++) {
		unsigned index, op;
		uint64_t a, b;
		demand(scanf("%u %u %" SCNu64 " %" SCNu64, &index, &op, &a, &b) == 4, "condition");
		args[i] = (struct scmp_arg_cmp){ .arg = index, .op = op, .datum_a = a, .datum_b = b };
	}
	int number = seccomp_syscall_resolve_name(name);
	if (action == defaults || number == __NR_SCMP_ERROR)
		return;
	demand(seccomp_rule_add_array(filter, action, number, count, args) == 0, name);
}

static void names(uint32_t token, int first)
{
	for (int number = first; number <= first + 1000; number++) {
		char *name = seccomp_syscall_resolve_num_arch(token, number);
		if (name)
			printf("%" PRIu32 " %d %s\n", token, number, name);
		free(name);
	}
}

int main(int argc, char **argv)
{
	char word[16];
	uint32_t defaults, token;

	if (argc > 1 && !strcmp(argv[1], "names")) {
		names(SCMP_ARCH_X86_64, 0);
		names(SCMP_ARCH_X32, 0x40000000);
		names(SCMP_ARCH_X86, 0);
		return 0;
	}

	demand(scanf("%15s %" SCNu32, word, &defaults) == 2 && !strcmp(word, "default"), "default");
	scmp_filter_ctx filter = seccomp_init(defaults);
	demand(filter != NULL, "init");
	while (scanf("%15s", word) == 1) {
		if (!strcmp(word, "arch")) {
			demand(scanf("%" SCNu32, &token) == 1, "arch");
			seccomp_arch_add(filter, token); /* it may be there already */
		} else {
			add_rule(filter, defaults);
		}
	}
	demand(seccomp_export_bpf(filter, STDOUT_FILENO) == 0, "export");
	return 0;
}
