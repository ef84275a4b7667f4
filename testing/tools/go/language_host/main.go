// A language host for Pulumi's Python programs, where the official one can't be had (it is not a Go module): the
// engine starts the host, the host starts the program with the virtual environment's Python. Covers up, preview,
// destroy, install and policy packs; no code generation.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/util/cmdutil"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	"github.com/pulumi/pulumi/sdk/v3/go/common/version"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// The exit status of a program that has already reported its error.
const alreadyExplained = 32

type host struct {
	pulumirpc.UnimplementedLanguageRuntimeServer
	engine string
}

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		cmdutil.Exit(errors.New("missing the engine's address"))
	}
	h := &host{engine: args[len(args)-1]}
	cancel := make(chan bool)
	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Cancel: cancel,
		Init: func(server *grpc.Server) error {
			pulumirpc.RegisterLanguageRuntimeServer(server, h)
			return nil
		},
		Options: rpcutil.OpenTracingServerInterceptorOptions(nil),
	})
	if err != nil {
		cmdutil.Exit(err)
	}
	fmt.Printf("%d\n", handle.Port)
	if err := <-handle.Done; err != nil {
		cmdutil.Exit(err)
	}
}

func (h *host) Handshake(_ context.Context, r *pulumirpc.LanguageHandshakeRequest) (*pulumirpc.LanguageHandshakeResponse, error) {
	h.engine = r.GetEngineAddress()
	return &pulumirpc.LanguageHandshakeResponse{}, nil
}

func (h *host) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: version.Version}, nil
}

func (h *host) GetRequiredPackages(context.Context, *pulumirpc.GetRequiredPackagesRequest) (*pulumirpc.GetRequiredPackagesResponse, error) {
	return &pulumirpc.GetRequiredPackagesResponse{}, nil
}

func (h *host) GetProgramDependencies(context.Context, *pulumirpc.GetProgramDependenciesRequest) (*pulumirpc.GetProgramDependenciesResponse, error) {
	return &pulumirpc.GetProgramDependenciesResponse{}, nil
}

func (h *host) About(_ context.Context, r *pulumirpc.AboutRequest) (*pulumirpc.AboutResponse, error) {
	python := interpreter(r.GetInfo())
	out, err := exec.Command(python, "--version").Output()
	if err != nil {
		return nil, err
	}
	return &pulumirpc.AboutResponse{Executable: python, Version: strings.TrimPrefix(strings.TrimSpace(string(out)), "Python ")}, nil
}

func (h *host) InstallDependencies(r *pulumirpc.InstallDependenciesRequest, s pulumirpc.LanguageRuntime_InstallDependenciesServer) error {
	closer, stdout, stderr, err := rpcutil.MakeInstallDependenciesStreams(s, r.GetIsTerminal())
	if err != nil {
		return err
	}
	defer closer.Close()
	venv := environment(r.GetInfo())
	if venv == "" {
		return errors.New("no virtualenv is named under runtime.options")
	}
	folder := r.GetInfo().GetProgramDirectory()
	steps := [][]string{
		{"python3", "-m", "venv", venv},
		{filepath.Join(venv, "bin", "python"), "-m", "pip", "install", "-q", "-r", filepath.Join(folder, "requirements.txt")},
	}
	for _, step := range steps {
		command := exec.Command(step[0], step[1:]...)
		command.Dir, command.Stdout, command.Stderr = folder, stdout, stderr
		if err := command.Run(); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(step, " "), err)
		}
	}
	return nil
}

func (h *host) Run(ctx context.Context, r *pulumirpc.RunRequest) (*pulumirpc.RunResponse, error) {
	given := r.GetConfig()
	if given == nil {
		given = map[string]string{}
	}
	config, err := json.Marshal(given)
	if err != nil {
		return nil, err
	}
	secret := r.GetConfigSecretKeys()
	if secret == nil {
		secret = []string{}
	}
	secrets, err := json.Marshal(secret)
	if err != nil {
		return nil, err
	}
	runner, err := beside("pulumi-language-python-exec")
	if err != nil {
		return nil, err
	}
	args := []string{"-u", runner}
	options := map[string]string{
		"--monitor": r.GetMonitorAddress(), "--engine": h.engine, "--project": r.GetProject(),
		"--root_directory": r.GetInfo().GetRootDirectory(), "--stack": r.GetStack(), "--pwd": r.GetPwd(),
		"--dry_run": strconv.FormatBool(r.GetDryRun()), "--parallel": strconv.Itoa(int(r.GetParallel())),
		"--organization": r.GetOrganization(),
	}
	for name, value := range options {
		if value != "" {
			args = append(args, name, value)
		}
	}
	program := r.GetInfo().GetEntryPoint()
	if program == "" {
		program = "."
	}
	args = append(append(args, program), r.GetArgs()...)
	command := exec.CommandContext(ctx, interpreter(r.GetInfo()), args...)
	command.Dir = r.GetInfo().GetProgramDirectory()
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	command.Env = append(activated(r.GetInfo()), "PULUMI_CONFIG="+string(config), "PULUMI_CONFIG_SECRET_KEYS="+string(secrets))
	if err := command.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			if exit.ExitCode() == alreadyExplained {
				return &pulumirpc.RunResponse{Bail: true}, nil
			}
			return &pulumirpc.RunResponse{Error: fmt.Sprintf("program exited with non-zero exit code: %d", exit.ExitCode())}, nil
		}
		return &pulumirpc.RunResponse{Error: err.Error()}, nil
	}
	return &pulumirpc.RunResponse{}, nil
}

func (h *host) RunPlugin(r *pulumirpc.RunPluginRequest, s pulumirpc.LanguageRuntime_RunPluginServer) error {
	closer, stdout, stderr, err := rpcutil.MakeRunPluginStreams(s, false)
	if err != nil {
		return err
	}
	defer closer.Close()
	args := append([]string{"-u", r.GetInfo().GetProgramDirectory()}, r.GetArgs()...)
	command := exec.CommandContext(s.Context(), interpreter(r.GetInfo()), args...)
	command.Dir, command.Stdout, command.Stderr = r.GetPwd(), io.Writer(stdout), io.Writer(stderr)
	command.Env = append(activated(r.GetInfo()), r.GetEnv()...)
	if err := command.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return s.Send(&pulumirpc.RunPluginResponse{Output: &pulumirpc.RunPluginResponse_Exitcode{Exitcode: int32(exit.ExitCode())}})
		}
		return err
	}
	return nil
}

// environment returns the absolute folder of the program's virtual environment, or nothing.
func environment(info *pulumirpc.ProgramInfo) string {
	if option, there := info.GetOptions().AsMap()["virtualenv"].(string); there && option != "" {
		if filepath.IsAbs(option) {
			return option
		}
		return filepath.Join(info.GetRootDirectory(), option)
	}
	return ""
}

func interpreter(info *pulumirpc.ProgramInfo) string {
	if venv := environment(info); venv != "" {
		return filepath.Join(venv, "bin", "python")
	}
	return "python3"
}

func activated(info *pulumirpc.ProgramInfo) []string {
	env := os.Environ()
	if venv := environment(info); venv != "" {
		env = append(env, "VIRTUAL_ENV="+venv, "PATH="+filepath.Join(venv, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	return env
}

func beside(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(self), name), nil
}
